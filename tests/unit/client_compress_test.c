/* client_compress_test.c: a larger value is compressed once, goes to all replicas in the same
 * bytes, and comes back as it was put. */
#include "fake_cluster.h"

#define BIG_MAX 3000000u

static uint8_t big[BIG_MAX], text[BIG_MAX];

/* Repeats, but nothing for long; more than a frame of it is left where it is `big`. */
static void text_fill(size_t len)
{
    fake_noise(text, len, 3);
    for (size_t i = 0; i < len; i++)
        text[i] = i / 40 % 2 == 0 ? (uint8_t)('a' + i % 26) : text[i] & 0x1F;
}

static struct fake_done put(struct fake_cluster *cluster, const char *key, const uint8_t *value,
                            size_t len)
{
    struct fake_done done = {0};
    kho_call_id call;
    struct kho_item item = {.key = key, .key_len = strlen(key), .value = value, .value_len = len};
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, &done,
                                    cluster->now, &call),
                     0);
    fake_run(cluster, 5000, &done);
    assert_true(done.come);
    assert_int_equal(done.first.status, 0);
    assert_int_equal(done.first.value_len, len);
    struct kho_id hash = content_hash(value, len);
    assert_memory_equal(done.first.hash, hash.bytes, 16);
    fake_run(cluster, 100, NULL);
    return done;
}

/* The status of a get; the value, which is lent with its done, is compared within. */
static int get(struct fake_cluster *cluster, const char *key, const uint8_t *value, size_t len)
{
    struct fake_done waited = {0};
    struct client_done done;
    struct client_op *op;
    kho_call_id call;
    struct kho_item item = {.key = key, .key_len = strlen(key)};
    client_records(cluster->client, CLIENT_GET, "people", &item, 1, 0, &waited, cluster->now,
                   &call);
    for (int i = 0; i < 8000; i++) {
        for (int k = 0; k < FAKE_CONNS; k++) {
            if (cluster->conns[k].open)
                fake_work(cluster, &cluster->conns[k]);
            fake_deliver(cluster, k);
        }
        client_tick(cluster->client, cluster->now);
        client_step_end(cluster->client, cluster->now);
        while ((op = client_next_op(cluster->client)) != NULL)
            fake_op(cluster, op);
        if (client_next_done(cluster->client, &done)) {
            const struct kho_result *result = &done.records.results[0];
            if (result->status == 0) {
                assert_int_equal(result->value_len, len);
                assert_memory_equal(result->value, value, len);
            }
            return result->status;
        }
        cluster->now.mono_ns += 1000000;
    }
    fail_msg("the get doesn't end");
    return 0;
}

/* All replicas have it, in the same bytes. */
static const struct fake_record *same_everywhere(struct fake_cluster *cluster, const char *key)
{
    const struct fake_record *first = fake_find(&cluster->nodes[0], 1, key, strlen(key));
    assert_non_null(first);
    for (int i = 1; i < FAKE_NODES; i++) {
        const struct fake_record *other = fake_find(&cluster->nodes[i], 1, key, strlen(key));
        assert_non_null(other);
        assert_int_equal(version_compare(other->version, first->version), 0);
        assert_int_equal(other->codec, first->codec);
        assert_int_equal(other->stored_len, first->stored_len);
        assert_memory_equal(other->value, first->value, first->stored_len);
    }
    return first;
}

/* Text is compressed from 8,000 bytes on, at every length; what goes over the wire is short. */
static void test_text(void **state)
{
    static const size_t lens[] = {0, 1, 7999, 8000, 9000, 65535, 65536, 65537, 300000, BIG_MAX};
    (void)state;
    struct fake_cluster *cluster = fake_open();
    text_fill(BIG_MAX);
    for (size_t i = 0; i < KHO_COUNT_OF(lens); i++) {
        char key[16];
        snprintf(key, sizeof key, "k%zu", i);
        put(cluster, key, text, lens[i]);
        const struct fake_record *record = same_everywhere(cluster, key);
        assert_int_equal(record->codec, lens[i] >= 8000 ? KHO_CODEC_LZ4 : KHO_CODEC_NONE);
        assert_int_equal(record->value_len, lens[i]);
        if (lens[i] >= 8000)
            assert_true(record->stored_len <= lens[i] - lens[i] / 8);
        assert_int_equal(get(cluster, key, text, lens[i]), 0);
        struct fake_done stat = fake_call(cluster, CLIENT_STAT, key, NULL);
        assert_int_equal(stat.first.status, 0);
        assert_int_equal(stat.first.value_len, lens[i]);
    }
    assert_true(same_everywhere(cluster, "k9")->stored_len > KHO_FRAME_MAX);
    fake_destroy(cluster);
}

/* Smaller ones go together where several wait: three of 5,000 bytes fit in a block. */
static void test_together(void **state)
{
    (void)state;
    enum { COUNT = 12, LEN = 5000 };
    struct fake_cluster *cluster = fake_open();
    struct kho_item items[COUNT];
    char keys[COUNT][4];
    struct fake_done done = {0};
    kho_call_id call;
    text_fill((size_t)COUNT * LEN);
    for (int i = 0; i < COUNT; i++) {
        snprintf(keys[i], sizeof keys[i], "k%02d", i);
        items[i] = (struct kho_item){
            .key = keys[i], .key_len = 3, .value = text + (size_t)i * LEN, .value_len = LEN};
    }
    fake_call(cluster, CLIENT_PUT, "warm", "up");
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", items, COUNT, 0, &done,
                                    cluster->now, &call),
                     0);
    fake_run(cluster, 5000, NULL);
    for (int n = 0; n < FAKE_NODES; n++)
        assert_int_equal(cluster->nodes[n].blocks, COUNT / 3);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(same_everywhere(cluster, keys[i])->codec, KHO_CODEC_NONE);
        assert_int_equal(get(cluster, keys[i], text + (size_t)i * LEN, LEN), 0);
    }
    fake_destroy(cluster);
}

/* However little is left of them, what goes in one frame unpacks to no more than one value may: the
 * fake nodes look. */
static void test_shrunk(void **state)
{
    (void)state;
    enum { COUNT = 16, LEN = 2900000 };
    struct fake_cluster *cluster = fake_open();
    struct kho_item items[COUNT];
    char keys[COUNT][4];
    struct fake_done done = {0};
    kho_call_id call;
    memset(text, 'z', LEN);
    fake_call(cluster, CLIENT_PUT, "warm", "up");
    uint64_t before = cluster->nodes[0].writes;
    for (int i = 0; i < COUNT; i++) {
        snprintf(keys[i], sizeof keys[i], "k%02d", i);
        items[i] = (struct kho_item){.key = keys[i], .key_len = 3, .value = text, .value_len = LEN};
    }
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", items, COUNT, 0, &done,
                                    cluster->now, &call),
                     0);
    fake_run(cluster, 5000, NULL);
    assert_int_equal(cluster->nodes[0].writes, before + COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(same_everywhere(cluster, keys[i])->value_len, LEN);
    fake_destroy(cluster);
}

/* Noise goes as it is, and so does everything where the option says so. */
static void test_as_it_is(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    text_fill(300000);
    fake_noise(big, 300000, 4);
    options.compress_min = 100;
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    put(cluster, "noise", big, 300000);
    put(cluster, "short", text, 99);
    put(cluster, "long", text, 1000);
    assert_int_equal(same_everywhere(cluster, "noise")->codec, KHO_CODEC_NONE);
    assert_int_equal(same_everywhere(cluster, "short")->codec, KHO_CODEC_NONE);
    assert_int_equal(same_everywhere(cluster, "long")->codec, KHO_CODEC_LZ4);
    assert_int_equal(get(cluster, "noise", big, 300000), 0);
    assert_int_equal(get(cluster, "long", text, 1000), 0);
    client_destroy(cluster->client);
    options.compress_min = UINT32_MAX;
    assert_int_equal(client_create(&options, 43, cluster->now, &cluster->client), 0);
    put(cluster, "never", text, 300000);
    assert_int_equal(same_everywhere(cluster, "never")->codec, KHO_CODEC_NONE);
    /* It reads what others compressed. */
    assert_int_equal(get(cluster, "long", text, 1000), 0);
    fake_destroy(cluster);
}

/* A piece that doesn't unpack, or unpacks to something else, is damage: another replica answers,
 * and nobody does where all are damaged. */
static void test_damaged_piece(void **state)
{
    static const size_t lens[] = {9000, 65537, BIG_MAX};
    (void)state;
    text_fill(BIG_MAX);
    for (size_t l = 0; l < KHO_COUNT_OF(lens); l++)
        for (int how = 0; how < 3; how++) {
            struct fake_cluster *cluster = fake_open();
            put(cluster, "k", text, lens[l]);
            for (int bad = 0; bad < FAKE_NODES; bad++) {
                struct fake_record *record = fake_find(&cluster->nodes[bad], 1, "k", 1);
                if (how == 0)
                    memset(record->value + KHO_PIECE_HEAD, 0xFF, 30);
                else if (how == 1)
                    kho_store32(record->value, UINT32_MAX);
                else
                    record->value[KHO_PIECE_HEAD + 3] ^= 1; /* a literal */
                for (int i = 0; i < FAKE_NODES; i++)
                    assert_int_equal(get(cluster, "k", text, lens[l]),
                                     bad < FAKE_NODES - 1 ? 0 : KHO_EDAMAGED);
            }
            fake_destroy(cluster);
        }
}

/* What is written back is what was read, byte for byte, even by a client that compresses nothing.
 */
static void test_write_back(void **state)
{
    static const size_t lens[] = {9000, BIG_MAX};
    (void)state;
    text_fill(BIG_MAX);
    for (size_t l = 0; l < KHO_COUNT_OF(lens); l++)
        for (int stat = 0; stat < 2; stat++) {
            struct fake_cluster *cluster = fake_open();
            struct kho_options options = fake_options(cluster);
            put(cluster, "k", text, lens[l]);
            struct fake_record *record = fake_find(&cluster->nodes[0], 1, "k", 1);
            record->version.counter++;
            client_destroy(cluster->client);
            options.compress_min = UINT32_MAX;
            assert_int_equal(client_create(&options, 43, cluster->now, &cluster->client), 0);
            fake_node_down(cluster, 1);
            if (stat == 1)
                assert_int_equal(fake_call(cluster, CLIENT_STAT, "k", NULL).first.status, 0);
            else
                assert_int_equal(get(cluster, "k", text, lens[l]), 0);
            struct fake_record *copy = fake_find(&cluster->nodes[2], 1, "k", 1);
            assert_int_equal(version_compare(copy->version, record->version), 0);
            assert_int_equal(copy->codec, KHO_CODEC_LZ4);
            assert_int_equal(copy->stored_len, record->stored_len);
            assert_memory_equal(copy->value, record->value, record->stored_len);
            fake_destroy(cluster);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),          cmocka_unit_test(test_together),
        cmocka_unit_test(test_shrunk),        cmocka_unit_test(test_as_it_is),
        cmocka_unit_test(test_damaged_piece), cmocka_unit_test(test_write_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
