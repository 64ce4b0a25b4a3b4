/* Are the words of a command line of kho and kho-bench, whatever they are, taken apart into values
 * in their ranges or refused? Input: a byte that chooses the program, then the words, a line each.
 */
#include "fuzz.h"

#include <stdarg.h>

#include "bench/dictionary_options.h"
#include "bench/engine_options.h"
#include "bench/load_options.h"
#include "client/cli/cli.h"
#include "client/cli/print.h"

enum { WORDS_MAX = 40 };

static volatile uint64_t g_sink;
static bool g_said;

/* In place of the one that prints. */
void say(const char *sentence, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, sentence);
    int len = vsnprintf(text, sizeof text, sentence, arguments);
    va_end(arguments);
    KHO_ASSERT(len > 0);
    g_said = true;
}

static void numbers_look(const struct args *args)
{
    uint64_t number = 7, size = 0;
    uint32_t ms = 10000;
    g_said = false;
    bool good = args_number(args, "limit", 1, 1000, &number);
    KHO_ASSERT(good != g_said && number >= 1 && number <= 1000);
    g_said = false;
    KHO_ASSERT(args_size(args, "memory", &size) != g_said);
    g_said = false;
    good = args_duration(args, "deadline", &ms);
    KHO_ASSERT(good != g_said && ms >= 1 && ms <= 3600000);
}

static void kho_look(int argc, char **argv)
{
    static const struct option_spec specs[] = {{"limit", "N", "at most so many"},
                                               {"memory", "SIZE", "of each"},
                                               {"values", NULL, "print values"},
                                               {NULL, NULL, NULL}};
    static const struct command command = {.words = "ls", .options = specs};
    struct args args = {.command = &command};
    g_said = false;
    bool good = args_take(&args, argc, argv, 1);
    KHO_ASSERT(good != g_said);
    if (good) {
        KHO_ASSERT(args.word_count + args.given_count <= (size_t)argc);
        for (size_t i = 0; i < args.word_count; i++)
            g_sink += strlen(args.words[i]);
        g_sink += args_flag(&args, "values") + args_flag(&args, "help");
        numbers_look(&args);
    }
    args_fini(&args);
}

static void load_look(enum load_command command, int argc, char **argv)
{
    char why[320] = "";
    struct load_options options;
    int status = load_options_parse(command, argc - 1, argv + 1, &options, why, sizeof why);
    KHO_ASSERT(memchr(why, 0, sizeof why) != NULL);
    KHO_ASSERT((status == 0) == (why[0] == '\0'));
    if (status != 0)
        return;
    KHO_ASSERT(options.seconds > 0 && options.warmup >= 0 && options.rate >= 0);
    KHO_ASSERT(options.value_min <= options.value_max && options.value_max <= 16u << 20);
    KHO_ASSERT(options.clients >= 1 && options.batch >= 1 && options.inflight >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char *argv[WORDS_MAX + 2] = {(char[]){"command"}}, error[1024] = "";
    int argc = 1;
    if (len == 0)
        return 0;
    char *text = malloc(len), *at = text;
    KHO_ASSERT(text != NULL);
    memcpy(text, bytes + 1, len - 1);
    text[len - 1] = '\0';
    while (at != NULL && argc <= WORDS_MAX) {
        char *end = strchr(at, '\n');
        if (end != NULL)
            *end = '\0';
        argv[argc++] = at;
        at = end != NULL ? end + 1 : NULL;
    }
    argv[argc] = NULL;
    if (bytes[0] % 7 < LOAD_COMMANDS) {
        load_look((enum load_command)(bytes[0] % 7), argc, argv);
    } else if (bytes[0] % 7 == LOAD_COMMANDS) {
        struct engine_options options;
        int status = engine_options_read(argc, argv, &options, error);
        KHO_ASSERT((status == 0) == (error[0] == '\0'));
        if (status == 0)
            g_sink += engine_options_want(&options, "append.small");
    } else if (bytes[0] % 7 == LOAD_COMMANDS + 1) {
        struct dictionary_options options;
        int status = dictionary_options_read(argc, argv, &options, error);
        KHO_ASSERT((status == 0) == (error[0] == '\0'));
    } else {
        kho_look(argc, argv);
    }
    free(text);
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    static const char *const seeds[] = {
        "\x07--seconds\n2\n--local=3\n--values=100-2000\n--json\nx\n--batch=64",
        "\x01--clients\n2\n--inflight=4\n--rate=1000\n--fixed\n--seed=5",
        "\x02--records=1000\n--pick=zipf\n--cluster=a:1,b:2\n--warmup=0.5",
        "\x03--mix=b\n--records\n10K\n--value\n1K\n--incompressible",
        "\x04--rounds=3\n--rows=append,read\n--records=1000\n--seconds=0.5\n--json=x\ndir",
        "\x05--rounds=2\n--order=random\n--records=5000\n--json\nx",
        "\x06--limit=5\npeople\n--memory\n64K\n--values\n--deadline=500ms\n--\n-x",
    };
    if (n >= KHO_COUNT_OF(seeds) || strlen(seeds[n]) > max)
        return 0;
    memcpy(to, seeds[n], strlen(seeds[n]));
    return strlen(seeds[n]);
}
