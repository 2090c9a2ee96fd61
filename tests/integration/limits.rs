//! How many actions and bytes a bulk request holds, and how many requests are open at once.

use crate::harness::archives::{Archive, post};
use crate::harness::model::assert_holds;
use crate::harness::{TestEnv, posts};

#[test]
fn a_request_holds_at_most_the_configured_number_of_actions() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 50))];
    let env = TestEnv::with_archives(&archives);
    let run = env.ingest().var("BATCH_DOCS", "8").run().exits(0);
    let sizes: Vec<usize> = env.fake.bulks().iter().map(|record| record.items.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 8), "{sizes:?}");
    assert_eq!((sizes.iter().sum::<usize>(), sizes.len()), (50, 7));
    run.counts(&[("requests.bulk", 7), ("requests.retried", 0)]);
}

#[test]
fn the_default_limit_is_100_actions() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(posts("p", 150))]);
    env.run(&[]).exits(0);
    let mut sizes: Vec<usize> = env.fake.bulks().iter().map(|record| record.items.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100]);
}

#[test]
fn a_request_holds_at_most_the_configured_number_of_bytes() {
    let archives = [Archive::new("20251218_000000").with_all(posts("p", 50))];
    let env = TestEnv::with_archives(&archives);
    env.ingest().var("BATCH_BYTES", "3000").run().exits(0);
    assert_holds(&env.fake, &archives);
    let bulks = env.fake.bulks();
    assert!(bulks.iter().all(|record| record.request.body.len() <= 3000));
    // The documents have about the same size, so only the last request may have room for another one.
    let largest = bulks.iter().flat_map(|record| &record.items).map(|item| item.bytes).max().unwrap();
    let with_room = bulks.iter().filter(|record| record.request.body.len() + largest <= 3000);
    assert!(with_room.count() <= 1 && bulks.len() > 2);
}

#[test]
fn a_document_over_the_byte_limit_is_sent_alone() {
    let big = post("big", &"long ".repeat(2000));
    let archives =
        [Archive::new("20251218_000000").with_all(posts("a", 5)).with(big).with_all(posts("b", 5))];
    let env = TestEnv::with_archives(&archives);
    env.run(&["--batch-bytes", "4000"]).exits(0);
    assert_holds(&env.fake, &archives);
    let (over, within): (Vec<_>, Vec<_>) =
        env.fake.bulks().into_iter().partition(|record| record.request.body.len() > 4000);
    assert_eq!(over.iter().map(|record| record.items.len()).collect::<Vec<_>>(), [1]);
    assert_eq!(within.iter().map(|record| record.items.len()).sum::<usize>(), 10);
}

#[test]
fn open_requests_never_outnumber_senders() {
    let archives: Vec<Archive> = (0..4)
        .map(|n| Archive::new(&format!("20251218_00000{n}")).with_all(posts(&format!("p{n}-"), 30)))
        .collect();
    let env = TestEnv::with_archives(&archives);
    env.ingest().var("SENDERS", "2").var("BATCH_DOCS", "1").run().exits(0);
    assert!((1..=2).contains(&env.fake.peak_open_bulks()), "{}", env.fake.peak_open_bulks());
    assert_holds(&env.fake, &archives);
}

#[test]
fn the_summary_counts_requests_and_bytes() {
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(posts("p", 20))]);
    let run = env.run(&["--batch-docs=4"]).exits(0);
    let bytes: usize = env.fake.bulks().iter().map(|record| record.request.body.len()).sum();
    run.counts(&[("requests.bulk", 5)]);
    // Compression and headers change the number, but not by orders of magnitude.
    let told = run.count("requests.bytes_sent");
    run.check((1..=2 * bytes as u64).contains(&told), &format!("{told} bytes sent of {bytes}"));
}
