//! Tests of which downloads begin when.

use std::time::Duration;

use crossbeam_channel::unbounded;

use super::*;
use crate::process::shutdown::StopReason;

const MIB: u64 = 1 << 20;

/// Runs the dispatcher over objects of these sizes in MiB, with memory for 10 MiB.
fn dispatching(sizes: &[u64], stop: &Stop, check: impl FnOnce(&Receiver<Job>)) {
    let name = |n: usize| n.to_string();
    let archive = |(n, bytes): (usize, &u64)| {
        Arc::new(Archive {
            name: name(n),
            path: "".into(),
            seconds: None,
            bytes: *bytes * MIB,
            ..Archive::default()
        })
    };
    let (found, archives) = unbounded();
    sizes.iter().enumerate().map(archive).for_each(|archive| found.send(archive).unwrap());
    drop(found);
    let object = |(n, bytes): (usize, &u64)| {
        (name(n), Object { key: name(n), etag: None, bytes: *bytes * MIB, storage_class: None, log: None })
    };
    let objects: Arc<Objects> = Arc::new(sizes.iter().enumerate().map(object).collect());
    let (sender, jobs) = bounded(0);
    let admission = &Admission::new(40 * MIB, 1, true);
    thread::scope(|scope| {
        let (left, _) = bounded(0);
        let objects = || objects.clone();
        scope.spawn(move || dispatch(&archives, &objects, admission, stop, &{ sender }, &left));
        check(&jobs);
    });
}

fn next(jobs: &Receiver<Job>) -> Job {
    jobs.recv_timeout(Duration::from_secs(20)).unwrap()
}

/// Asserts that no job is sent. A dispatcher that has memory for one sends it at once.
fn assert_none_waits(jobs: &Receiver<Job>) {
    assert!(jobs.recv_timeout(Duration::from_millis(50)).is_err());
}

#[test]
fn a_download_begins_once_there_is_memory_for_all_of_it() {
    dispatching(&[6, 4, 1, 9], &Stop::new(), |jobs| {
        let (first, second) = (next(jobs), next(jobs));
        assert_none_waits(jobs);
        drop(second);
        let third = next(jobs);
        assert_eq!(third.archive.name, "2");
        assert_none_waits(jobs);
        drop(first);
        assert_eq!(next(jobs).archive.name, "3");
        drop(third);
    });
}

#[test]
fn an_object_larger_than_the_share_for_downloads_is_admitted_alone() {
    dispatching(&[1, 30, 1], &Stop::new(), |jobs| {
        let small = next(jobs);
        assert_none_waits(jobs);
        drop(small);
        let large = next(jobs);
        assert_none_waits(jobs);
        drop(large);
        assert_eq!(next(jobs).archive.name, "2");
    });
}

#[test]
fn a_stop_ends_the_wait_for_memory() {
    let stop = Stop::new();
    dispatching(&[10, 10], &stop, |jobs| {
        let held = next(jobs);
        stop.request(StopReason::Interrupt);
        assert!(jobs.recv().is_err());
        drop(held);
    });
}
