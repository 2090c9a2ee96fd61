//! Tests of reading heads of replies and collecting their bodies.

use super::*;

fn object(bytes: u64) -> Object {
    Object { key: "k".into(), etag: Some("\"1\"".into()), bytes, storage_class: None, log: None }
}

fn whole(length: usize, etag: &str) -> ObjectHead {
    ObjectHead {
        start: None,
        length: Some(length),
        is_framed: true,
        may_be_gzip: false,
        etag: Some(etag.into()),
        modified: None,
    }
}

fn half() -> Part {
    Part { bytes: vec![0; 5], length: 10, head: whole(10, "\"1\""), most: 5, ..Part::default() }
}

#[test]
fn heads_of_replies_are_read() {
    let headers = |pairs: &[(HeaderName, &str)]| -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    };
    let all = headers(&[(CONTENT_LENGTH, "10"), (ETAG, "\"1\"")]);
    assert_eq!(ObjectHead::parse(false, &all), Some(whole(10, "\"1\"")));
    let rest = headers(&[(CONTENT_LENGTH, "5"), (CONTENT_RANGE, "bytes 5-9/10")]);
    assert_eq!(
        ObjectHead::parse(true, &rest),
        Some(ObjectHead { start: Some(5), etag: None, ..whole(10, "") })
    );
    let of_unknown_length = headers(&[(CONTENT_LENGTH, "5"), (CONTENT_RANGE, "bytes 5-9/*")]);
    let answer = ObjectHead::parse(true, &of_unknown_length).unwrap();
    assert_eq!((answer.start, answer.length), (Some(5), None));
    assert_eq!(ObjectHead::parse(false, &headers(&[])), Some(ObjectHead::default()));
    for empty in ["", "\"\"", "W/\"\""] {
        assert_eq!(
            ObjectHead::parse(false, &headers(&[(ETAG, empty)])),
            Some(ObjectHead::default()),
            "{empty}"
        );
    }
    for chunked in
        [&[(TRANSFER_ENCODING, "chunked")][..], &[(TRANSFER_ENCODING, "chunked"), (CONTENT_LENGTH, "10")]]
    {
        let head = ObjectHead { is_framed: true, ..ObjectHead::default() };
        assert_eq!(ObjectHead::parse(false, &headers(chunked)), Some(head));
    }
    for range in ["bytes */10", "5-9/10", "bytes 5-/10", "bytes 9-5/10", ""] {
        assert_eq!(ObjectHead::parse(true, &headers(&[(CONTENT_RANGE, range)])), None, "{range}");
    }
}

#[test]
fn a_reply_whose_length_is_not_that_of_its_range_is_not_used() {
    for (length, is_used) in [("5", true), ("10", false), ("4", false)] {
        let pairs = [(CONTENT_LENGTH, length), (CONTENT_RANGE, "bytes 5-9/10")];
        let headers = pairs.map(|(name, value)| (name, value.parse().unwrap())).into_iter().collect();
        assert_eq!(ObjectHead::parse(true, &headers).is_some(), is_used, "{length}");
    }
}

#[test]
fn a_reply_of_status_206_must_say_which_part_it_is() {
    let reply = |status: u16, range: &str| {
        let head = Response::builder().status(status).header(CONTENT_RANGE, range);
        ObjectHead::of(&head.body(Body::builder().data("")).unwrap())
    };
    assert_eq!(reply(206, "bytes 5-9/10").unwrap().start, Some(5));
    assert!(matches!(reply(206, ""), Err(GetError::Unavailable { .. })));
    assert_eq!(reply(200, "").unwrap().start, None);
}

#[test]
fn the_rest_is_requested_only_of_the_same_object() {
    assert_eq!(half().headers(), [(RANGE, "bytes=5-".into()), (IF_MATCH, "\"1\"".into())]);
    assert!(Part::default().headers().is_empty());
    assert!(Part { head: ObjectHead::default(), ..half() }.headers().is_empty());
}

#[test]
fn a_body_continues_only_at_the_right_offset() {
    let rest = ObjectHead { start: Some(5), ..whole(10, "\"1\"") };
    let mut part = half();
    part.begin(rest.clone(), &object(10)).unwrap();
    assert_eq!(part.bytes.len(), 5);
    for other in [
        ObjectHead { start: Some(4), ..rest.clone() },
        ObjectHead { length: Some(11), ..rest.clone() },
        ObjectHead { may_be_gzip: true, ..rest.clone() },
        ObjectHead { etag: Some("\"2\"".into()), ..rest },
    ] {
        assert_eq!(half().begin(other, &object(10)), Err(GetError::Changed));
    }
}

#[test]
fn a_part_from_the_middle_does_not_begin_an_object() {
    let rest = ObjectHead { start: Some(5), ..whole(10, "\"1\"") };
    assert_eq!(Part::default().begin(rest, &object(10)), Err(GetError::Changed));
}

#[test]
fn a_server_that_has_honoured_the_condition_need_not_repeat_the_etag() {
    let mut part = half();
    part.begin(ObjectHead { start: Some(5), etag: None, ..whole(10, "") }, &object(10)).unwrap();
    assert_eq!(part.missing(), 5);
    assert_eq!(part.head.etag.as_deref(), Some("\"1\""));
}

#[test]
fn a_rest_without_an_etag_must_not_have_another_modification_time() {
    let begins = |modified: Option<&str>| {
        let mut part = half();
        part.head.modified = Some("Thu".into());
        let rest =
            ObjectHead { start: Some(5), etag: None, modified: modified.map(str::to_owned), ..whole(10, "") };
        part.begin(rest, &object(10))
    };
    assert_eq!((begins(None), begins(Some("Thu"))), (Ok(()), Ok(())));
    assert_eq!(begins(Some("Fri")), Err(GetError::Changed));
}

#[test]
fn parts_without_the_same_strong_etag_may_be_of_different_objects() {
    for (etag, may_be_mixed) in [(Some("\"1\""), false), (Some("W/\"1\""), true), (None, true)] {
        let mut part = half();
        let rest = ObjectHead { start: Some(5), etag: etag.map(str::to_owned), ..whole(10, "") };
        part.begin(rest, &object(10)).unwrap();
        assert_eq!(part.may_be_mixed, may_be_mixed, "{etag:?}");
    }
}

#[test]
fn a_complete_body_that_is_too_short_is_not_continued() {
    for is_framed in [true, false] {
        let mut part = Part::default();
        let head = ObjectHead { length: None, is_framed, ..whole(0, "\"1\"") };
        part.begin(head, &object(10)).unwrap();
        part.take(&[0; 4]);
        assert!(matches!(part.ends(), Err(GetError::Unavailable { .. })));
        assert_eq!(part.headers().is_empty(), is_framed);
    }
}

#[test]
fn bytes_received_again_are_not_progress() {
    let mut part = half();
    part.forget();
    assert!(part.headers().is_empty() && part.missing() == 0);
    part.begin(whole(10, "\"1\""), &object(10)).unwrap();
    assert!(!part.take(&[0; 5]));
    part.begin(whole(10, "\"1\""), &object(10)).unwrap();
    assert!(!part.take(&[0; 4]) && part.take(&[0; 2]));
    assert_eq!((part.most, part.missing()), (6, 4));
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let mut part = half();
    part.begin(whole(10, "\"1\""), &object(10)).unwrap();
    assert!(part.bytes.is_empty() && part.bytes.capacity() >= 10);
}

#[test]
fn the_length_must_be_the_listed_one_unless_a_smaller_object_replaced_it() {
    let other = Part::default().begin(whole(9, "\"1\""), &object(10));
    assert!(matches!(other, Err(GetError::Other(why)) if why.contains("9 bytes")));
    assert_eq!(Part::default().begin(whole(9, "\"2\""), &object(10)), Ok(()));
    for length in [11, usize::MAX] {
        let larger = Part::default().begin(whole(length, "\"2\""), &object(10));
        assert!(matches!(larger, Err(GetError::Other(why)) if why.contains("a larger one")));
    }
}

#[test]
fn a_range_of_the_whole_object_is_the_object() {
    let mut part = Part::default();
    part.begin(ObjectHead { start: Some(0), ..whole(10, "\"1\"") }, &object(10)).unwrap();
    assert_eq!(part.missing(), 10);
}

#[test]
fn without_a_length_the_listed_one_decides() {
    let begun = |etag: &str, is_framed| {
        let mut part = Part::default();
        part.begin(ObjectHead { length: None, is_framed, ..whole(0, etag) }, &object(10)).unwrap();
        part
    };
    for (etag, is_framed) in [("\"1\"", true), ("1", false), ("W/\"1\"", false)] {
        let mut part = begun(etag, is_framed);
        part.take(&[0; 4]);
        assert_eq!(part.ends(), Err(GetError::unavailable("cut off after 4 of 10 bytes (end of the body)")));
        part.take(&[0; 6]);
        assert_eq!(part.ends(), Ok(()));
        assert!(part.may_be_longer());
    }
    assert!(!half().may_be_longer(), "the reply gave the length");
    // Replaced by a shorter object: complete only if the body marks its own end.
    let mut framed = begun("\"2\"", true);
    framed.take(&[0; 4]);
    assert_eq!((framed.ends(), framed.missing()), (Ok(()), 0));
    let mut unframed = begun("\"2\"", false);
    unframed.take(&[0; 4]);
    assert!(matches!(unframed.ends(), Err(GetError::Other(_))));
}

#[test]
fn weak_etags_are_not_used_as_a_condition() {
    assert!(Part { head: whole(10, "W/\"1\""), ..half() }.headers().is_empty());
}

#[test]
fn bodies_compressed_in_transit_are_inflated_and_others_are_kept() {
    let stored: Vec<u8> = (0..1_000).map(|n| (n % 251) as u8).collect();
    let mut packed = vec![0; 2_000];
    let length = libdeflater::Compressor::default().gzip_compress(&stored, &mut packed).unwrap();
    packed.truncate(length);
    let received = |body: &[u8], length: Option<usize>| {
        let mut part = Part::default();
        part.begin(ObjectHead { length, may_be_gzip: true, ..whole(0, "\"1\"") }, &object(1_000)).unwrap();
        part.take(body);
        let ends = part.ends();
        assert!(part.headers().is_empty() || length == Some(1_000));
        (ends, part.bytes == stored)
    };
    assert_eq!(received(&packed, None), (Ok(()), true));
    assert_eq!(received(&packed, Some(packed.len())), (Ok(()), true));
    assert_eq!(received(&stored, None), (Ok(()), true));
    assert_eq!(received(&stored, Some(1_000)), (Ok(()), true));
    assert!(matches!(received(&packed[..100], None), (Err(GetError::Unavailable { .. }), _)));
    let mut short = vec![0; 2_000];
    let length = libdeflater::Compressor::default().gzip_compress(&stored[..900], &mut short).unwrap();
    let (ends, _) = received(&short[..length], None);
    assert!(matches!(ends, Err(GetError::Unavailable { .. })), "it is too short once inflated");
    let huge = ObjectHead { length: Some(5_000), may_be_gzip: true, ..whole(0, "\"1\"") };
    assert!(Part::default().begin(huge, &object(1_000)).is_err());
}

#[test]
fn compressed_bytes_may_be_a_little_more_than_the_listed_ones() {
    let begins = |length| {
        let head = ObjectHead { may_be_gzip: true, ..whole(length, "\"1\"") };
        Part::default().begin(head, &object(10_000))
    };
    // A hundredth and 1 KiB.
    assert_eq!(begins(11_124), Ok(()));
    assert!(matches!(begins(11_125), Err(GetError::Other(why)) if why.contains("a larger one")));
}

#[test]
fn compressed_bytes_that_come_again_are_no_progress() {
    let mut part = Part::default();
    let head = || ObjectHead { length: None, may_be_gzip: true, ..whole(0, "\"1\"") };
    part.begin(head(), &object(10)).unwrap();
    assert!(part.take(&[0; 5]));
    part.begin(head(), &object(10)).unwrap();
    assert!(!part.take(&[0; 5]) && part.take(&[0; 1]));
}
