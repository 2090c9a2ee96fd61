//! Why a deleted post stays deleted, and the last emission of any other is what is left. No code: the argument that
//! [`bulk`](super::bulk) is built on, and what it takes for granted.
//!
//! The promise, for every `at_uri` ever read: if a delete was among its events, a tombstone and no post; else the
//! post of its last emission, in the order (archive time, row id). It holds once every archive is marked
//! `processed`, for any number of workers, senders and processes, in any order, with retries, kills and replays.
//!
//! # Without a delete
//!
//! Each row has one version ([`Version`](crate::model::Version)), the same in every run, and is written with
//! `external_gte`. A live document keeps its version for ever, so of all that is written to an id, in whatever order
//! and however often, the highest version is left. Nothing is deleted from `posts` that has no tombstone.
//!
//! # With a delete
//!
//! Versions alone do not do: Elasticsearch forgets the version of a delete after `index.gc_deletes` (60 s unless set
//! otherwise), and at once where the shard is restarted or moved. A post that is written after that is a new
//! document. So whoever writes a post looks for a tombstone afterwards, and whoever writes a tombstone deletes the
//! post afterwards:
//!
//! ```text
//! a row with a post                              a row with a deletion
//! 1  look up the tombstone ── found ──┐          1  write the tombstone, until confirmed
//! 2  write the post, until confirmed  │          2  delete the post, until confirmed
//! 3  look up the tombstone ── found ──┤
//! 4            delete the post ◀──────┘          a row has its outcome only after its last step
//! ```
//!
//! Take the last write of a post under an id that has a deletion, and the steps that gave its row the outcome with
//! which the archive was marked. They were carried out, in part, after that write or had it among them:
//!
//! - One of the two look-ups came after the write and found the tombstone: then step 4 deleted the post after it.
//! - Or the look-up of step 3 came after the write and found none. Then the tombstone was confirmed only after that
//!   look-up began, since a look-up by id is realtime: it sees all that was confirmed before. The delete that follows
//!   the tombstone came later still: it deleted the post.
//!
//! Either way a delete comes after the last write, and so no post is left. Through an alias its version is above that of
//! every post (`1 << 62`), so only another delete can turn it down (409), and then the post is gone already. Elsewhere
//! (the older indices behind an alias, an index that is named itself) the post is looked up and deleted if it is still
//! the same (`if_seq_no`); where it has changed meanwhile, it is looked up again. Step 3 follows also where step 2 was
//! turned down (409) or refused: an earlier attempt of the same row may have been carried out.
//!
//! No time occurs in this, nor does anything that a server could forget. What the first look-up adds is that a
//! deleted post is not even seen for a moment: it is done anew where a batch has waited for longer than half of
//! `index.gc_deletes`, so that until the post is written the version of a delete in between is remembered.
//!
//! # Kills, retries, replays
//!
//! A run that ends between two steps has not given the row its outcome, and the archive is not marked: the next run
//! takes all steps again. That is why a post with a tombstone is deleted even where step 1 finds it and nothing is
//! written: an interrupted run may have left it there. The same heals what another program has written.
//!
//! A row that became a dead letter has had no last step: what the promise says of it begins with its replay.
//!
//! An attempt whose answer got lost may have been carried out or not, or is carried out while the next attempt is
//! already under way. Any of these is a write before the look-up of step 3.
//!
//! # Several indices, and aliases that move
//!
//! Ids and versions are unique per concrete index. Where an alias has several, a tombstone is looked up in each of them,
//! and a post is deleted from each of them; so "the tombstone" and "the post" above mean those of any index that stood
//! behind the names when the step was taken.
//!
//! An alias may get another index between two steps, and a step may then have missed it. So before an archive is marked,
//! after its last step, what stands behind the names is looked at anew ([`targets`](super::targets)). Where it is not
//! what it was before the first step, the archive is not marked, and all its steps are taken again with what there is
//! now. An archive that is marked has thus had all its steps with one and the same set of indices, that of the moment
//! when it was marked. Take a post and a deletion of the same id, both marked. The later of the two marks saw a set of
//! indices that holds those of the earlier one, as long as no index leaves an alias: its steps looked in all of them.
//!
//! # What is taken for granted
//!
//! | assumption | where it does not hold |
//! |---|---|
//! | No request is carried out after the row's last look-up that its sender has given up. A request is waited for longer (90 s; less, but 10 s at least, only where a retry budget is about to end) than Elasticsearch waits for a shard (60 s), so this takes a request of a killed process, or one behind a connection that broke, and a server that holds it up for longer than the row's next attempts take. | The delete's version still stands against it for `index.gc_deletes`. After that the post is back until its row, or a later emission, is read again. A longer `index.gc_deletes` on `posts` (`1h` costs some 200 bytes of heap for each delete of the last hour) leaves restarts of the shard in just that moment. |
//! | A confirmed tombstone is found: the index is never emptied, and not restored to an older state. | Posts that are emitted again come back. Posts restored from a snapshot that is older than their tombstones stay until their rows are read again: run once without the state file. |
//! | An index that leaves an alias takes nothing with it that matters. | Its tombstones no longer keep posts away, and its posts are no longer deleted. An index that leaves and comes back while an archive is being done may be missed. |
//! | A look-up is answered by a copy of the shard that is in sync. | A node cut off from its cluster may answer from a stale copy until it notices, some seconds. |
//! | Only this program writes posts. | What others write after the deletion stays, unless they look up tombstones, too. |
//!
//! Versions that others gave are no obstacle. A document that an earlier tool wrote without an external version (1, 2
//! and so on) is below every version here and taken over; one that is partially updated later (version + 1) is above
//! its row's version, so that a replay is `superseded`, and below that of the next emission.
//!
//! # What it costs
//!
//! Two multi gets of ids for each batch of posts, without documents. Each sender waits for its own, while the others'
//! batches are under way and the workers go on encoding: with several senders the look-ups of some overlap with the
//! requests of others.
//!
//! Measured with 6,000 rows and batches of 100, loader and one node on the same two cores, rows a second over TLS, the
//! best of some runs that differ by a tenth and more:
//!
//! | | no look-up | the first only | both |
//! |---|---|---|---|
//! | vectors indexed, 1 sender | 2,300 | 2,200 | 2,300 |
//! | vectors indexed, 4 senders | 4,200 | 3,900 | 3,900 |
//! | vectors not indexed, 1 sender | 3,700 | 3,100 | 3,000 |
//! | vectors not indexed, 4 senders | 4,500 | 4,700 | 4,400 |
//!
//! `tests/convergence` tries all of this out on random streams of events; `tests/e2e/convergence.py` does against a
//! real server.
