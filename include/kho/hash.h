/* hash.h: XXH3, the hash under every byte of kho, in the fastest form that libxxhash has here.
 *
 * Where libxxhash carries its dispatcher (Debian's does on amd64), the names of XXH3 become those
 * of the dispatcher, which takes the widest vectors that the processor has: three times as fast as
 * SSE2 on 300 bytes and more, and the same hash. Elsewhere they stay what they are. Include this
 * and never <xxhash.h>, so that all rooms hash with the same speed. */
#ifndef KHO_HASH_H
#define KHO_HASH_H

/* The size of XXH3's state (576 bytes since 0.8.0), for a state that is part of a struct. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#ifdef KHO_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#endif

#endif
