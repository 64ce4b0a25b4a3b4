/* api.h: what the driver's files share: the options as taken over, memory, the clock, seeds, and
 * the public view of the map. */
#ifndef KHO_CLIENT_API_H
#define KHO_CLIENT_API_H

#include <kho/base.h>
#include <kho/kho.h>
#include <kho/map.h>

/* The caller's options over the defaults: a program built against an older kho.h has a shorter
 * struct, and a zero means the default. -EINVAL: no seeds, or half a heap. The `cluster` string
 * stays the caller's. */
int api_options_take(const struct kho_options *options, struct kho_options *ret_options);

void *api_allocate(const struct kho_heap *heap, size_t size);
/* Zeroed. */
void *api_allocate_zeroed(const struct kho_heap *heap, size_t size);
void api_release(const struct kho_heap *heap, void *memory);

struct kho_now api_now(void);
/* Counts the forks between the first process that asked and this one, so that a client knows
 * whether it was inherited without a system call a call. 0 or -ENOMEM: can't count. */
int api_forks_watch(void);
unsigned api_forks(void);
/* 64 random bits of the kernel. */
uint64_t api_seed(void);

/* The public view of a map, with copies of its names. Zeroed: none yet. */
struct api_cluster {
    uint64_t epoch, map_hash;
    char home[33];
    struct kho_collection_info *collections;
    size_t collection_count;
    char (*names)[65];
};
/* Copies what `map` says if it isn't the one copied before. */
int api_cluster_update(struct api_cluster *cluster, const struct map *map,
                       const struct kho_heap *heap);
void api_cluster_fini(struct api_cluster *cluster, const struct kho_heap *heap);

#endif
