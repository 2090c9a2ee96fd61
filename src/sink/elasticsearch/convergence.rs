//! Proof that a deleted post stays deleted, and that every other post ends as its last emission. This module has no
//! code: it holds the argument that [`bulk`](super::bulk) is built on, and its assumptions.
//!
//! The promise, for every `at_uri` ever read: if a delete was among its events, there is a tombstone and no post.
//! Otherwise there is the post of its last emission, in the order (archive time, row id). The promise holds once every
//! archive is marked `processed`, for any number of workers, senders and processes, in any order, with retries, kills
//! and replays.
//!
//! # Without a delete
//!
//! Each row has one version ([`Version`](crate::model::Version)), the same in every run, and is written with
//! `external_gte`. A live document never loses its version. So the highest version written to an id remains, however
//! often and in whatever order versions are written. Only posts with a tombstone are deleted from `posts`.
//!
//! # With a delete
//!
//! Versions alone are not enough. Elasticsearch forgets the version of a delete after `index.gc_deletes` (60 s by
//! default), and at once if the shard is restarted or moved. A post written after that is a new document. So the writer
//! of a post looks for a tombstone afterwards, and the writer of a tombstone deletes the post afterwards:
//!
//! ```text
//! a row with a post                              a row with a deletion
//! 1  look up the tombstone ── found ──┐          1  write the tombstone, until confirmed
//! 2  write the post, until confirmed  │          2  delete the post, until confirmed
//! 3  look up the tombstone ── found ──┤
//! 4            delete the post ◀──────┘          a row has its outcome only after its last step
//! ```
//!
//! Consider the last write of a post under an id that has a deletion, and the steps that gave its row the outcome with
//! which the archive was marked. These steps include that write, or some of them follow it:
//!
//! - One of the two look-ups came after the write and found the tombstone. Then step 4 deleted the post after the
//!   write.
//! - Or the look-up of step 3 came after the write and found none. A look-up by id is realtime: it sees everything that
//!   was confirmed before. So the tombstone was confirmed only after that look-up began. The delete that follows the
//!   tombstone came later still, and deleted the post.
//!
//! In both cases a delete follows the last write, so no post is left. Through an alias, the delete's version is above
//! that of every post (`1 << 62`), so only another delete can reject it (409), and then the post is gone already.
//! Elsewhere (the older indices behind an alias, an index that is named directly) the post is looked up and deleted if
//! it has not changed (`if_seq_no`); otherwise it is looked up again. Step 3 follows even if step 2 was rejected (409)
//! or refused: an earlier attempt of the same row may have been carried out.
//!
//! The argument involves no time, and nothing that a server could forget. The first look-up is not part of it: it only
//! keeps a deleted post from becoming visible for a moment. It is repeated if a batch has waited longer than half of
//! `index.gc_deletes`, so that Elasticsearch remembers the version of a delete in between until the post is written.
//!
//! # Kills, retries, replays
//!
//! A run that ends between two steps has not given the row its outcome, and the archive is not marked, so the next run
//! repeats all steps. That is why a post with a tombstone is deleted even if step 1 finds the tombstone and nothing is
//! written: an interrupted run may have left the post there. This also repairs what another program has written.
//!
//! A row that became a dead letter has not completed its last step. The promise covers it once it is replayed.
//!
//! An attempt whose answer was lost may have been carried out or not, or may be carried out during the next attempt. In
//! each case it is a write before the look-up of step 3.
//!
//! # Several indices, and aliases that move
//!
//! Ids and versions are unique per concrete index. If an alias has several, tombstones are looked up in all of them,
//! and posts are deleted from all of them. So "the tombstone" and "the post" above mean those of any index that was
//! behind the names at that step.
//!
//! An alias may get another index between two steps, and a step may then have missed it. So after the last step, and
//! before an archive is marked, the indices behind the names are looked up again ([`targets`](super::targets)). If they
//! differ from those before the first step, the archive is not marked, and all its steps are repeated with the current
//! indices. So all steps of a marked archive used the same set of indices: the set at the time of its mark. Consider a
//! post and a deletion of the same id, both marked. As long as no index leaves an alias, the later mark saw all indices
//! of the earlier one, so its steps looked in all of them.
//!
//! A post may be in several indices. The newest of these has its last emission. Assume that an index holds an older
//! emission than an index before it, and that both rows are marked. The newer emission was not written to the newer
//! index, so its row was marked before the rollover, or only just after it, but all its writes were confirmed before.
//! The row of the older emission was marked with both indices behind the name, so its last attempt looked in both after
//! that. It found the newer emission, sent nothing, and deleted what an earlier attempt had left in the newer index. The
//! look-up leaves out the indices before the newest one that is older than the archive: newer archives came after them.
//!
//! If the index before a rollover requires routing and the new one does not, a request under way puts documents with a
//! routing into the new one, perhaps in shards to which no look-up and no delete goes. The answer names the index, so
//! these documents are sent again without a routing, and the copies in other shards are deleted. A run that is killed
//! between these two requests leaves its copies.
//!
//! # Assumptions
//!
//! | assumption | if it does not hold |
//! |---|---|
//! | A request that its sender has given up is not carried out after the row's last look-up. The client waits longer for a request (90 s; less, but at least 10 s, only if a retry budget is about to end) than Elasticsearch waits for a shard (60 s). So the assumption fails only for a request of a killed process or of a broken connection, and only if the server delays it for longer than the row's next attempts take. | The delete's version still rejects the request for `index.gc_deletes`. After that the post is back until its row, or a later emission, is read again. With a longer `index.gc_deletes` on `posts` (`1h` costs some 200 bytes of heap for each delete of the last hour), only a restart of the shard at that moment is left as a cause. |
//! | A confirmed tombstone is found: the index is never emptied or restored to an older state. | Posts that are emitted again come back. Posts restored from a snapshot older than their tombstones stay until their rows are read again: run once without the state file. |
//! | An index that leaves an alias takes nothing with it that matters. | Its tombstones no longer keep posts away, and its posts are no longer deleted. An index that leaves and comes back while an archive is processed may be missed. |
//! | A look-up is answered by a copy of the shard that is in sync. | A node cut off from its cluster may answer from a stale copy for some seconds, until it notices. |
//! | An index of posts takes writes from its creation on, and the clocks of archives and server agree. | If an index was created some days before its rollover, an archive of these days that is loaded late, after a newer one, may put an older emission into it. |
//! | Only this program writes posts. | Posts that others write after the deletion stay, unless they look up tombstones as well. |
//!
//! Versions from other writers do no harm. A document that an earlier tool wrote without an external version (1, 2 and
//! so on) is below every version here and is replaced. A document that is partially updated later (version + 1) is
//! above its row's version, so a replay is `superseded`, and below the version of the next emission.
//!
//! # What it costs
//!
//! Two multi gets of ids per batch of posts, without documents. Each sender waits for its own, while other senders'
//! batches are under way and workers continue to encode. With several senders, look-ups overlap with the requests of
//! others.
//!
//! Measured with 6,000 rows and batches of 100, with the loader and one node on the same two cores, in rows per second
//! over TLS. Each number is the best of several runs, which differ by 10 % and more:
//!
//! | | no look-up | the first only | both |
//! |---|---|---|---|
//! | vectors indexed, 1 sender | 2,300 | 2,200 | 2,300 |
//! | vectors indexed, 4 senders | 4,200 | 3,900 | 3,900 |
//! | vectors not indexed, 1 sender | 3,700 | 3,100 | 3,000 |
//! | vectors not indexed, 4 senders | 4,500 | 4,700 | 4,400 |
//!
//! `tests/convergence` tests this with random streams of events; `tests/e2e/convergence.py` does so with a real server.
