/* error.h: kho's error codes, each with one sentence. Installed.
 *
 * Functions return 0 or a count on success and a negative code on failure. Codes of the kernel pass
 * through as -errno (above -1000); kho's own are below -1000. kho_error_sentence() says what a code
 * means, kho_error_name() gives its short name (KHO_EDAMAGED: "EDAMAGED"). */
#ifndef KHO_ERROR_H
#define KHO_ERROR_H

/* X(name, code, sentence). Codes travel on the wire: never renumber, only add. */
#define KHO_ERRORS(X)                                                                              \
    X(ENOTFOUND, -1001, "no record has this key")                                                  \
    X(EUNAVAILABLE, -1002, "a majority of the record's replicas is out of reach")                  \
    X(EDEADLINE, -1003, "the deadline passed before a majority answered")                          \
    X(EINDOUBT, -1004,                                                                             \
      "the write may or may not be stored; retry it with its token to be certain")                 \
    X(EDAMAGED, -1005, "the record is damaged on the replicas that could be read")                 \
    X(EUNKNOWN, -1006, "the replica can't say whether it has the record; repair will restore it")  \
    X(EKEYSIZE, -1007, "a key has 1 to 1,024 bytes")                                               \
    X(EVALUESIZE, -1008, "a value has at most 16 MiB (16,777,216 bytes)")                          \
    X(ECOLLECTIONNAME, -1009, "a collection's name is 1 to 64 of a-z 0-9 . _ -")                   \
    X(ENOCOLLECTION, -1010, "the cluster has no such collection; create it first")                 \
    X(ECOLLECTIONEXISTS, -1011, "the cluster has a collection of that name already")               \
    X(EMALFORMED, -1012, "the message or the bytes break the documented layout")                   \
    X(ECHECKSUM, -1013, "the bytes don't match their hash")                                        \
    X(EVERSION, -1014, "the peer or the file is of a format that this program doesn't know")       \
    X(ECLUSTER, -1015, "the node belongs to another cluster")                                      \
    X(EINCARNATION, -1016,                                                                         \
      "the node's data folder isn't the one that the map names; if it was made anew, let it in "   \
      "with 'kho node readmit'")                                                                   \
    X(ESHARD, -1017, "the node has no such shard")                                                 \
    X(EEPOCHOLD, -1018, "the request was asked under an older map; the reply brings the current")  \
    X(EBEHIND, -1019, "the node holds an older map than the request; an admin tool brings it")     \
    X(ENOMAP, -1020, "the node has no cluster map yet; run 'kho cluster init'")                    \
    X(EMAP, -1021, "the cluster map is not valid or its hash differs at the same epoch")           \
    X(ENOTREPLICA, -1022, "the node is no replica of the record's partition")                      \
    X(ESTALE, -1023, "the write is at or below the floor of deletes and its key is absent")        \
    X(EDROPPED, -1024, "deletes were dropped since the source was read; read it again")            \
    X(ECONFLICT, -1025, "another value was stored under the same version")                         \
    X(ETOOFAR, -1026, "the version is more than a day ahead of the node's clock")                  \
    X(EFULL, -1027, "the node's memory limit is reached: new keys are refused")                    \
    X(ENOSPACE, -1028, "the node's disk is full to its reserve")                                   \
    X(EREADONLY, -1029, "a write to the node's disk failed: the shard takes no more writes")       \
    X(EBUSY, -1030, "the bound of bytes in flight is reached; go on when some have ended")         \
    X(ECANCELED, -1031, "the call was cancelled")                                                  \
    X(ECLOSED, -1032, "the client is closing or closed")                                           \
    X(EROLLEDBACK, -1033,                                                                          \
      "the node's log is shorter than it was: its folder was restored or copied; readmit it")      \
    X(ECLOCK, -1034, "the write's time is too far behind the replica's floor")                     \
    X(ETOKEN, -1035, "the token doesn't belong to this call's key and value")                      \
    X(EEPISODE, -1036, "a damage episode is open there and can't be closed by this call")          \
    X(EOVERLAP, -1037,                                                                             \
      "too many replicas are damaged in the same partition: an admin must accept the loss")        \
    X(ENOTHOME, -1038, "map changes are decided at the map's home node, and this isn't it")        \
    X(EDENIED, -1039, "the caller has no grant for this")                                          \
    X(ECOLLISION, -1040, "two keys share their hash; the record's value is unknown")               \
    X(ESTOPPING, -1041, "the node is stopping")                                                    \
    X(EINTERNAL, -1042, "a bug in kho")                                                            \
    X(ETOOLARGE, -1043, "the map or message would pass the largest frame (256 KiB)")               \
    X(EMOVING, -1044, "the layout of the cluster changes; 'kho repair' brings that to its end")

enum kho_error {
#define KHO_ERROR_ENUM(name, code, sentence) KHO_##name = (code),
    KHO_ERRORS(KHO_ERROR_ENUM)
#undef KHO_ERROR_ENUM
};

#ifdef __cplusplus
extern "C" {
#endif

/* The sentence of a code of kho's own, or NULL for another. Never freed. */
static inline const char *kho_error_sentence(int code)
{
    switch (code) {
#define KHO_ERROR_CASE(name, number, sentence)                                                     \
    case number:                                                                                   \
        return sentence;
        KHO_ERRORS(KHO_ERROR_CASE)
#undef KHO_ERROR_CASE
    default:
        return 0;
    }
}

/* The name of a code of kho's own without KHO_, or NULL for another. Never freed. */
static inline const char *kho_error_name(int code)
{
    switch (code) {
#define KHO_ERROR_CASE(name, number, sentence)                                                     \
    case number:                                                                                   \
        return #name;
        KHO_ERRORS(KHO_ERROR_CASE)
#undef KHO_ERROR_CASE
    default:
        return 0;
    }
}

#ifdef __cplusplus
}
#endif

#endif
