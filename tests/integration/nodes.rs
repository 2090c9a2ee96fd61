//! Several nodes of one cluster: requests rotate, failing nodes are left out, and no other node is contacted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::archives::Archive;
use crate::harness::fake::Fake;
use crate::harness::front::{Conduct, Front};
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::store::Store;
use crate::harness::{Invocation, TestEnv, posts, wait_until};

fn env() -> (TestEnv, Vec<Archive>) {
    let archives: Vec<_> = (0..3)
        .map(|n| Archive::new(&format!("20251218_00000{n}")).with_all(posts(&format!("p{n}_"), 20)))
        .collect();
    (TestEnv::with_archives(&archives), archives)
}

fn to<'e>(env: &'e TestEnv, nodes: &[&Front]) -> Invocation<'e> {
    let urls: Vec<_> = nodes.iter().map(|node| node.url()).collect();
    env.ingest().var("ELASTICSEARCH_URL", &urls.join(", ")).args(&["--batch-docs", "2", "--senders", "2"])
}

#[test]
fn requests_go_to_all_nodes_in_turn() {
    let (env, archives) = env();
    let nodes = [(); 3].map(|()| Front::of(&env.fake.url()));
    to(&env, &[&nodes[0], &nodes[1], &nodes[2]]).run().exits(0);
    assert!(nodes.iter().all(|node| node.connections() > 0));
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_missing_node_loses_nothing_and_is_reported_once() {
    let (env, archives) = env();
    let [good, gone, closing] = [(); 3].map(|()| Front::of(&env.fake.url()));
    closing.set_conduct(Conduct::Closes);
    let url_of_gone = gone.url();
    drop(gone);
    let urls = format!("{},{url_of_gone},{}", closing.url(), good.url());
    let run = env.ingest().var("ELASTICSEARCH_URL", &urls).args(&["--batch-docs", "2"]).run().exits(0);
    for node in [&url_of_gone, &closing.url()] {
        run.check(
            run.stderr.matches(&format!("{node} is left out for 1 s")).count() == 1,
            "one line for each",
        );
    }
    run.counts(&[("requests.retried", 0)]);
    run.check(run.took < Duration::from_secs(15), "no request waits for the missing nodes");
    assert_holds(&env.fake, &archives);
}

#[test]
fn the_https_hint_is_only_given_for_nodes_that_never_answered() {
    let (env, archives) = env();
    let [good, closing] = [(); 2].map(|()| Front::of(&env.fake.url()));
    closing.set_conduct(Conduct::Closes);
    let running =
        to(&env, &[&good, &closing]).args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.wait_for_processed(&archives);
    // The other node, which has answered before, now breaks connections, too.
    good.set_conduct(Conduct::Closes);
    let more = Archive::new("20251219_000000").with_all(posts("more", 4));
    env.add(std::slice::from_ref(&more));
    let started = std::time::Instant::now();
    while !running.has_logged(&format!("{} is left out", good.url())) {
        assert!(started.elapsed() < Duration::from_secs(20), "the failing node is left out");
        std::thread::sleep(Duration::from_millis(5));
    }
    good.set_conduct(Conduct::Forwards);
    env.wait_for_processed(std::slice::from_ref(&more));
    running.signal("TERM");
    let run = running.wait().exits(0);
    let told = |node: &Front| {
        let is_hint =
            |line: &&str| line.contains(&node.url()) && line.contains("does the server expect https?");
        run.stderr.lines().filter(|line| line.contains("is left out")).filter(is_hint).count()
    };
    run.check((told(&good), told(&closing)) == (0, 1), "the hint names only the node that never answered");
}

#[test]
fn a_node_that_fails_during_a_run_is_used_again_when_it_returns() {
    let (env, archives) = env();
    let nodes = [(); 2].map(|()| Front::of(&env.fake.url()));
    // The load lasts longer than the pause of 1 s.
    env.fake.fail_bulks(usize::MAX, Fault::Delay(Duration::from_millis(150)));
    let run = to(&env, &[&nodes[0], &nodes[1]]).start();
    env.fake.wait_for_bulks(3);
    nodes[0].set_conduct(Conduct::Closes);
    env.fake.wait_for_bulks(8);
    let before = nodes[0].connections();
    nodes[0].set_conduct(Conduct::Forwards);
    let run = run.wait().exits(0);
    run.check(nodes[0].connections() > before, "the node is used again");
    run.check(run.stderr.contains(&format!("{} is left out", nodes[0].url())), "the node is reported");
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_node_that_is_not_ready_is_left_out() {
    let (env, archives) = env();
    let other = TestEnv::new();
    other.fake.fail(|_| true, 0, usize::MAX, Fault::status(503));
    let urls = format!("{},{}", other.fake.url(), env.fake.url());
    let run = env.ingest().var("ELASTICSEARCH_URL", &urls).run().exits(0);
    run.counts(&[("requests.retried", 0)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_node_that_answers_with_pages_is_left_out_while_others_answer() {
    for status in [200, 302, 401, 403, 404] {
        let (env, archives) = env();
        let other = TestEnv::new();
        other.fake.fail(|_| true, 0, usize::MAX, Fault::page(status));
        let urls = format!("{},{}", other.fake.url(), env.fake.url());
        let run = env.ingest().var("ELASTICSEARCH_URL", &urls).run().exits(0);
        run.counts(&[("requests.retried", 0)]);
        run.check(run.stderr.contains(&format!("{} is left out", other.fake.url())), "it is told of");
        assert_holds(&env.fake, &archives);
    }
}

#[test]
fn a_page_of_one_node_does_not_hide_that_another_one_pushes_back() {
    let (env, _) = env();
    let wrong = TestEnv::new();
    env.fake.fail(|_| true, 0, usize::MAX, Fault::status(429));
    wrong.fake.fail(|_| true, 0, usize::MAX, Fault::page(404));
    let urls = format!("{},{}", env.fake.url(), wrong.fake.url());
    env.ingest().var("ELASTICSEARCH_URL", &urls).args(&["--retry-budget", "1"]).run().exits(4);
}

#[test]
fn a_node_that_pushes_back_on_everything_does_not_end_the_run() {
    for status in [429, 500] {
        let (env, archives) = env();
        let other = TestEnv::new();
        other.fake.fail(|_| true, 0, usize::MAX, Fault::status(status));
        let urls = format!("{},{}", other.fake.url(), env.fake.url());
        let run = env.ingest().var("ELASTICSEARCH_URL", &urls).args(&["--retry-budget", "5"]).run().exits(0);
        run.check(!run.stderr.contains("is left out"), "the node may be asked again at any time");
        assert_holds(&env.fake, &archives);
    }
}

#[test]
fn the_node_that_refuses_the_credentials_is_named() {
    let (env, _) = env();
    let other = TestEnv::new();
    other.fake.fail(|_| true, 0, usize::MAX, Fault::status(401));
    let urls = format!("{},{}", env.fake.url(), other.fake.url());
    let run = env.ingest().var("ELASTICSEARCH_URL", &urls).run().exits(5);
    run.says(&format!("{} refuses the credentials", other.fake.url()));
}

#[test]
fn a_key_that_all_nodes_refuse_after_an_outage_ends_the_run_as_refused() {
    for is_in_the_middle in [false, true] {
        let (env, _) = env();
        let nodes = [(); 2].map(|()| Front::of(&env.fake.url()));
        // Each node fails once or twice, and then refuses the key.
        if is_in_the_middle {
            let bulks = AtomicUsize::new(0);
            let is_later = move |request: &Request| {
                bulks.fetch_add(usize::from(request.is_bulk()), Ordering::Relaxed) >= 2
            };
            env.fake.fail(is_later, 0, usize::MAX, Fault::status(401));
            env.fake.fail_bulks(2, Fault::status(503));
        } else {
            env.fake.fail(|_| true, 0, 4, Fault::status(503));
            env.fake.fail(|_| true, 0, usize::MAX, Fault::status(401));
        }
        let run = to(&env, &[&nodes[0], &nodes[1]]).args(&["--senders", "1"]);
        let run = run.var("RETRY_BUDGET_SEC", "3").run().exits(5).says("ELASTICSEARCH_API_KEY is refused");
        run.check(env.state().is_empty(), "nothing is marked");
    }
}

#[test]
fn nodes_that_learn_their_keys_after_an_outage_are_used_again() {
    let (env, archives) = env();
    let nodes = [(); 2].map(|()| Front::of(&env.fake.url()));
    let bulks = AtomicUsize::new(0);
    let is_later =
        move |request: &Request| bulks.fetch_add(usize::from(request.is_bulk()), Ordering::Relaxed) >= 2;
    env.fake.fail(is_later, 0, 6, Fault::status(401));
    env.fake.fail_bulks(2, Fault::status(503));
    // With more, a request may meet a node whose failure has not arrived yet.
    to(&env, &[&nodes[0], &nodes[1]]).args(&["--senders", "1", "--vector-encoding", "array"]).run().exits(0);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_request_that_is_too_large_for_one_node_leaves_none_out() {
    let (env, archives) = env();
    let other = Front::of(&env.fake.url());
    let is_large = |request: &Request| request.is_bulk() && request.body.len() > 3_000;
    env.fake.fail(is_large, 0, usize::MAX, Fault::status(413));
    let urls = format!("{},{}", env.fake.url(), other.url());
    let run = env.ingest().var("ELASTICSEARCH_URL", &urls).run().exits(0);
    run.check(!run.stderr.contains("is left out"), "no node is to blame");
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_silent_node_is_replaced_by_another_one() {
    let (env, _) = env();
    let [silent, good] = [(); 2].map(|()| Front::of(&env.fake.url()));
    silent.set_conduct(Conduct::Silent);
    let run = to(&env, &[&silent, &good]).args(&["--check"]).run().exits(0);
    run.check(run.stderr.contains(&format!("{} is left out", silent.url())), "the node is reported");
}

#[test]
fn a_request_under_way_at_a_signal_goes_to_no_further_node() {
    let (env, _) = env();
    let nodes = [(); 2].map(|()| Front::of(&env.fake.url()));
    env.fake.fail_bulks(usize::MAX, Fault::Hang);
    let run = to(&env, &[&nodes[0], &nodes[1]]).args(&["--senders", "1", "--vector-encoding", "array"]);
    // The shortest time limit of a request is 10 s.
    let running = run.args(&["--retry-budget", "1"]).start();
    env.fake.wait_for_bulks(1);
    running.signal("TERM");
    let run = running.wait().exits(143);
    run.check(env.fake.bulks().len() == 1, "only one node gets it");
}

#[test]
fn the_server_is_unavailable_only_if_no_node_answers() {
    let (env, _) = env();
    let [one, other] = [(); 2].map(|()| Front::of(&env.fake.url()));
    let urls = [one.url(), other.url()];
    drop((one, other));
    let run =
        env.ingest().var("ELASTICSEARCH_URL", &urls.join(",")).args(&["--retry-budget", "1"]).run().exits(4);
    for url in &urls {
        run.check(run.stderr.contains(url), "every node is named with its reason");
    }
}

#[test]
fn only_the_configured_nodes_are_contacted() {
    let (env, archives) = env();
    let node = Front::of(&env.fake.url());
    env.fake.forget_requests();
    to(&env, &[&node]).run().exits(0);
    let paths: Vec<_> = env.fake.requests().into_iter().map(|record| record.request.path).collect();
    assert!(!paths.iter().any(|path| path.contains("_nodes") || path.contains("_cluster")), "{paths:?}");
    assert_holds(&env.fake, &archives);
}

#[test]
fn nodes_of_different_clusters_are_refused() {
    let (env, _) = env();
    for other in [Fake::start(), Fake::start_with(Store::default())] {
        let urls = format!("{},{}", env.fake.url(), other.url());
        for arguments in [&[][..], &["--check"], &["--verify"], &["--create-indices"]] {
            let run = env.ingest().var("ELASTICSEARCH_URL", &urls).args(arguments).run();
            let run = run.exits(5).says("show different indices").says(&other.url());
            run.check(env.state().is_empty(), "nothing is marked");
            assert!(other.documents("posts").is_empty() && env.fake.bulks().is_empty());
        }
    }
}

#[test]
fn a_node_that_learns_of_an_index_a_moment_later_is_accepted() {
    let (env, archives) = env();
    let [one, other] = [(); 2].map(|()| Front::of(&env.fake.url()));
    let compares =
        |request: &Request| request.query.iter().any(|(_, value)| value == "*.settings.index.uuid");
    let late = Reply::error(404, "index_not_found_exception", "no such index [posts]");
    env.fake.fail(compares, 1, 1, Fault::Reply(late));
    to(&env, &[&one, &other]).run().exits(0);
    assert_holds(&env.fake, &archives);
}

#[test]
fn what_a_node_took_while_it_was_a_cluster_of_its_own_is_loaded_again() {
    let (env, archives) = env();
    let stray = Fake::start();
    let [good, split] = [(); 2].map(|()| Front::of(&env.fake.url()));
    // Slow enough that the other node is used again before everything is sent.
    env.fake.fail(Request::is_bulk, 2, usize::MAX, Fault::Delay(Duration::from_millis(300)));
    let running = to(&env, &[&good, &split]).args(&["--mode", "spool"]).start();
    env.fake.wait_for_bulks(3);
    split.set_server(&stray.url());
    stray.wait_for_bulks(1);
    env.fake.clear_faults();
    wait_until("the nodes are compared", || running.has_logged("show different indices"));
    assert!(env.state().is_empty(), "nothing is marked");
    split.set_server(&env.fake.url());
    env.wait_for_processed(&archives);
    running.signal("TERM");
    running.wait().exits(0);
    assert_holds(&env.fake, &archives);
}
