//! Minimal environments, as in containers: no home, no terminal, a read-only root, closed descriptors, and the program
//! as PID 1.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::disks::with_mounts;
use crate::harness::archives::{Archive, unreadable};
use crate::harness::model::assert_holds;
use crate::harness::{TestEnv, lines, posts};

fn archive() -> Archive {
    Archive::new("20251218_000000").with_all(posts("a", 5)).with(unreadable("odd", Some("{")))
}

#[test]
fn no_environment_variable_is_needed() {
    let env = TestEnv::with_archives(&[archive()]);
    let variables = env.ingest().command();
    let names: Vec<_> = variables.get_envs().filter_map(|(name, _)| name.to_str()).collect();
    assert!(
        ["HOME", "TERM", "USER", "LANG", "TMPDIR", "SHELL"].iter().all(|name| !names.contains(name)),
        "{names:?}"
    );
    env.ingest().without("PATH").run().exits(3).counts(&[("archives.processed", 1)]);
    assert_holds(&env.fake, &[archive()]);
}

#[test]
fn closed_descriptors_do_not_receive_output() {
    for closed in ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"] {
        let env = TestEnv::with_archives(&[archive()]);
        let run = env.ingest().in_shell(&format!("exec megastream_ingest {closed}")).run().exits(3);
        run.counts(&[("archives.processed", 1), ("rows.rejected", 1)]);
        // Files may get the numbers of closed descriptors, and nothing else must write to them.
        assert_eq!(env.status_of(&archive()), "processed");
        assert_eq!(env.dead_letters().len(), 1);
        let output =
            env.ingest().in_shell(&format!("exec megastream_ingest --dry-run --output out {closed}")).run();
        output.exits(0);
        assert!(lines(&env.read("out").unwrap()).is_empty(), "the archive is already processed");
    }
}

#[test]
fn a_read_only_root_is_enough() {
    let env = TestEnv::with_archives(&[archive()]);
    let script = "mount --bind . .; cd \"$PWD\"; mount -o remount,bind,ro /; if touch /tmp/sealed; then exit 99; fi; \
                  exec megastream_ingest";
    let Some(invocation) = with_mounts(&env, script) else { return };
    invocation.run().exits(3).counts(&[("archives.processed", 1)]);
    assert_eq!(env.dead_letters().len(), 1);
    assert_holds(&env.fake, &[archive()]);
}

#[test]
fn the_program_as_pid_1_ends_at_a_signal() {
    let may = Command::new("unshare").args(["-Urpf", "true"]).status();
    if !may.as_ref().is_ok_and(|status| status.success()) {
        println!("skipped, since no process can be the first one here: {may:?}");
        return;
    }
    let env = TestEnv::with_archives(&[archive()]);
    let once = env.ingest().in_shell("exec unshare -Urpf megastream_ingest").run().exits(3);
    once.counts(&[("archives.processed", 1)]);
    let running = env
        .ingest()
        .in_shell("exec unshare -Urpf megastream_ingest --mode spool --metrics-file m.prom")
        .start();
    let started = Instant::now();
    let children = format!("/proc/{0}/task/{0}/children", running.id());
    while env.read("m.prom").is_none_or(|text| !text.contains("last_success")) {
        assert!(started.elapsed() < Duration::from_secs(30), "the program has started");
        std::thread::sleep(Duration::from_millis(5));
    }
    let first = std::fs::read_to_string(children).unwrap();
    let kill = Command::new("kill").args(["-TERM", first.trim()]).status().unwrap();
    assert!(kill.success(), "{first}");
    running.wait().exits(0);
}
