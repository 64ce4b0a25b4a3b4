/* seeds.h: a seed that finds each planted bug, to be tried first. Made by
 * `kho-planted --table`; what it names wrongly only costs time. */
#ifndef KHO_PLANTED_SEEDS_H
#define KHO_PLANTED_SEEDS_H

#include <kho/planted.h>

#include <stdint.h>

static const struct known_seed {
    int bug;
    uint64_t seed;
} known_seeds[] = {
    {PLANTED_ack_before_durable, 4},
    {PLANTED_commit_not_synced, 4},
    {PLANTED_folder_not_synced, 14},
    {PLANTED_index_before_durable, 4},
    {PLANTED_lands_out_of_order, 1},
    {PLANTED_failed_write_acked, 2},
    {PLANTED_failed_write_retried, 4},
    {PLANTED_failed_sync_ignored, 10},
    {PLANTED_start_without_sync, 16},
    {PLANTED_footer_trusted, 15},
    {PLANTED_footer_buffer_reused, 1},
    {PLANTED_rot_forgotten, 472},
    {PLANTED_rot_truncated, 12},
    {PLANTED_torn_tail_taken, 2},
    {PLANTED_unsealed_after_cut, 2},
    {PLANTED_deletes_not_restored, 4},
    {PLANTED_sequence_reused, 16},
    {PLANTED_damage_as_absent, 68},
    {PLANTED_damage_without_episode, 5},
    {PLANTED_hidden_partition_votes, 16},
    {PLANTED_delete_absent, 1},
    {PLANTED_readmitted_without_episode, 4},
    {PLANTED_lower_replaces, 5},
    {PLANTED_compact_repoints_blindly, 45},
    {PLANTED_compact_drops_deletes, 112},
    {PLANTED_compact_frees_early, 2},
    {PLANTED_recycled_not_zeroed, 8},
    {PLANTED_retired_unlogged, 16},
    {PLANTED_digest_not_updated, 1},
    {PLANTED_retry_acked_early, 4},
    {PLANTED_wrong_shard, 3},
    {PLANTED_write_quorum_one, 5},
    {PLANTED_read_quorum_one, 2},
    {PLANTED_no_write_back, 23},
    {PLANTED_write_back_not_awaited, 10},
    {PLANTED_older_record_returned, 4},
    {PLANTED_stamp_below_highest, 1},
    {PLANTED_stamp_not_above, 1},
    {PLANTED_stamp_of_client_clock, 4},
    {PLANTED_stamp_quorum_one, 2},
    {PLANTED_unknown_votes, 4},
    {PLANTED_doubt_denied, 1},
    {PLANTED_token_stamped_anew, 6},
    {PLANTED_restart_stamped_anew, 3},
    {PLANTED_deadline_missed, 3},
    {PLANTED_order_swapped, 1},
    {PLANTED_repair_raises_version, 1},
    {PLANTED_repair_takes_first, 6},
    {PLANTED_repair_skips_deletes, 4},
};

#endif
