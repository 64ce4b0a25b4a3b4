/* planted.h: deliberate faults, each a mistake that could be made and that breaks a promise. A test
 * puts them in one at a time and asks whether the simulator finds them (tests/planted).
 *
 * KHO_PLANTED(name) stands where the mistake would be. In what ships it is the constant 0, and
 * nothing of it is compiled; tests/planted builds both cores a second time with KHO_WITH_PLANTED,
 * where it is true for the one bug that `kho_planted` names. */
#ifndef KHO_PLANTED_H
#define KHO_PLANTED_H

#ifdef KHO_WITH_PLANTED

/* Name, and what is wrong. */
#define KHO_PLANTED_BUGS(X)                                                                        \
    X(ack_before_durable,                                                                          \
      "a write is acknowledged when it was taken, before its commit is durable")                   \
    X(commit_not_synced, "a commit is written without RWF_DSYNC")                                  \
    X(folder_not_synced, "a replaced manifest counts before its folder is synced")                 \
    X(index_before_durable, "a record enters the index when its commit is submitted")              \
    X(lands_out_of_order, "a commit lands when its own write ends, whatever is before it")         \
    X(failed_write_acked, "a commit whose write failed lands")                                     \
    X(failed_write_retried, "a shard goes on after a failed write, and writes what failed anew")   \
    X(failed_sync_ignored, "a replaced file counts though its sync failed")                        \
    X(start_without_sync,                                                                          \
      "a start serves what it read from unsealed segments without flushing them")                  \
    X(footer_trusted, "a start believes a footer whose commits may not be durable")                \
    X(footer_buffer_reused,                                                                        \
      "a footer is encoded into the buffer of one that is still being written")                    \
    X(rot_forgotten, "a start passes over rot without an episode")                                 \
    X(rot_truncated, "a start takes rot below the durable end for a torn tail")                    \
    X(torn_tail_taken, "a start takes a torn last commit for a whole one")                         \
    X(unsealed_after_cut, "a start goes on in the segment whose tail it dropped")                  \
    X(deletes_not_restored, "a start passes over tombstones")                                      \
    X(sequence_reused, "after a start sequences go on behind the last whole commit, not behind "   \
                       "the last that was seen")                                                   \
    X(damage_as_absent, "a record whose value is damaged is told as absent")                       \
    X(damage_without_episode, "records lose their values, and no episode is opened")               \
    X(hidden_partition_votes,                                                                      \
      "a partition that may have lost versions answers from what it has left")                     \
    X(delete_absent, "a deleted key is told as one that never was")                                \
    X(readmitted_without_episode, "a wiped node that is let in answers at once")                   \
    X(lower_replaces, "a lower version replaces a higher one")                                     \
    X(compact_repoints_blindly,                                                                    \
      "compaction repoints the index though the record was overwritten meanwhile")                 \
    X(compact_drops_deletes, "compaction drops tombstones")                                        \
    X(compact_frees_early, "compaction gives a segment up before its copies are durable")          \
    X(recycled_not_zeroed, "a segment file is used again with its former blocks in it")            \
    X(retired_unlogged,                                                                            \
      "the file of a retired segment goes before the manifest that says so is durable")            \
    X(digest_not_updated, "an overwrite leaves the old version in the digest")                     \
    X(retry_acked_early, "a write sent twice is acknowledged though the first is still in flight") \
    X(wrong_shard, "clients ask the first shard for everything, and it answers")                   \
    X(write_quorum_one, "one acknowledgement is enough for a write")                               \
    X(read_quorum_one, "one vote is enough for a read")                                            \
    X(no_write_back, "a read returns the highest version without writing it back")                 \
    X(write_back_not_awaited, "a read returns when its write-back was sent")                       \
    X(older_record_returned,                                                                       \
      "a read returns the record that came first, though another replica has a newer version")     \
    X(stamp_below_highest, "a stamp takes the time alone, whatever version is there")              \
    X(stamp_not_above, "a stamp takes the counter that is there instead of the next one")          \
    X(stamp_of_client_clock, "a version takes its time from the client's clock")                   \
    X(stamp_quorum_one, "one vote is enough for a stamp")                                          \
    X(unknown_votes, "a replica that can't say counts as one that has nothing")                    \
    X(doubt_denied, "a write that may be there ends as not applied")                               \
    X(token_stamped_anew, "a write that goes on with a token gets a new version")                  \
    X(restart_stamped_anew, "a write that starts again in a new epoch gets a new version")         \
    X(deadline_missed, "a call ends a second after its deadline")                                  \
    X(order_swapped, "two puts of one client on one key go out at once")                           \
    X(repair_raises_version, "a repair copies a record under a new version")                       \
    X(repair_takes_first, "a repair copies the version that it was told first, not the highest")   \
    X(repair_skips_deletes, "a repair doesn't copy tombstones")

enum kho_planted {
    PLANTED_none,
#define KHO_PLANTED_ENUM(name, sentence) PLANTED_##name,
    KHO_PLANTED_BUGS(KHO_PLANTED_ENUM)
#undef KHO_PLANTED_ENUM
        PLANTED_COUNT
};

/* The bug that is in force. */
extern enum kho_planted kho_planted;
#define KHO_PLANTED(name) (kho_planted == PLANTED_##name)

#else
#define KHO_PLANTED(name) 0
#endif

#endif
