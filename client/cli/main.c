/* main.c: `kho`: finds the command, gives it its arguments, explains itself.
 *
 * A command is one or two words; options stand anywhere. The exit code is the command's, or
 * EXIT_USAGE when the line can't be understood, or EXIT_OTHER when its output can't be written. */
#include <signal.h>
#include <string.h>

#include "cli.h"
#include "print.h"

static const struct command *const commands[] = {
    &command_put,           &command_get,           &command_stat,
    &command_del,           &command_append,        &command_ls,
    &command_import,        &command_export,        &command_collection_create,
    &command_collection_ls, &command_status,        &command_verify,
    &command_repair,        &command_cluster_init,  &command_node_readmit,
    &command_node_add,      &command_node_balance,  &command_node_drain,
    &command_node_undrain,  &command_node_home,     &command_node_remove,
    &command_node_replace,  &command_node_reweight, &command_node_zone,
    &command_local_up,      &command_local_down,    &command_local_status,
    &command_local_stop,    &command_local_kill,    &command_local_start,
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_options(const char *title, const struct option_spec *specs)
{
    if (specs == NULL)
        return;
    printf("\n%s\n", title);
    for (; specs->name != NULL; specs++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", specs->name, specs->value != NULL ? " " : "",
                 specs->value != NULL ? specs->value : "");
        int wide = 0; /* bytes that continue a character take no column */
        for (const char *at = left; *at != '\0'; at++)
            wide += ((unsigned char)*at & 0xC0) == 0x80;
        printf("  %-*s  %s\n", 24 + wide, left, specs->help);
    }
}

static void print_overview(void)
{
    puts("kho stores records on several nodes.\n\nCommands");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-18s  %s\n", commands[i]->words, commands[i]->summary);
    printf("  %-18s  %s\n  %-18s  %s\n", "help [COMMAND]", "this, or one command explained",
           "version", "the version of this program");
    print_options("Options of every command", args_globals);
    puts("\nExit codes\n"
         "  0 done   1 not found   2 wrong use   3 unavailable   4 in doubt   5 damage\n"
         "  6 another failure\n\n"
         "Keys that aren't text are printed with %XX for each odd byte; --escaped takes them so.");
}

static void print_command(const struct command *command)
{
    printf("kho %s %s\n\n  %s\n", command->words, command->arguments, command->summary);
    if (command->details != NULL)
        printf("\n%s\n", command->details);
    if (command->options != NULL && command->options->name != NULL)
        print_options("Options", command->options);
    print_options("Options of every command", args_globals);
}

/* How many words of argv[at…] name this command: 0 if they don't. */
static int match(const struct command *command, int argc, char **argv, int at)
{
    const char *space = strchr(command->words, ' ');
    if (space == NULL)
        return strcmp(command->words, argv[at]) == 0;
    size_t len = (size_t)(space - command->words);
    bool first = strlen(argv[at]) == len && strncmp(command->words, argv[at], len) == 0;
    return first && at + 1 < argc && strcmp(space + 1, argv[at + 1]) == 0 ? 2 : 0;
}

static const struct command *find(int argc, char **argv, int *at)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        int words = match(commands[i], argc, argv, *at);
        if (words > 0) {
            *at += words;
            return commands[i];
        }
    }
    return NULL;
}

/* The commands whose first word this is; 0: none. */
static int print_group(const char *word, FILE *file)
{
    int found = 0;
    size_t len = strlen(word);
    for (size_t i = 0; i < COMMANDS; i++) {
        const char *words = commands[i]->words;
        if (strncmp(words, word, len) == 0 && words[len] == ' ') {
            fprintf(file, "  kho %s %s\n      %s\n", words, commands[i]->arguments,
                    commands[i]->summary);
            found++;
        }
    }
    return found;
}

static int help(int argc, char **argv, int at)
{
    while (at < argc && argv[at][0] == '-')
        at++;
    if (at == argc || strcmp(argv[at], "help") == 0 || strcmp(argv[at], "version") == 0) {
        print_overview();
        return EXIT_DONE;
    }
    const struct command *command = find(argc, argv, &at);
    if (command != NULL) {
        print_command(command);
        return EXIT_DONE;
    }
    if (print_group(argv[at], stdout) > 0)
        return EXIT_DONE;
    say("there is no command '%s'; kho help lists them", argv[at]);
    return EXIT_USAGE;
}

static int unknown(const char *word, bool more)
{
    if (print_group(word, stderr) > 0)
        say(more ? "'%s' has no such command" : "'%s' wants one of these words behind it", word);
    else
        say("there is no command '%s'; kho help lists them", word);
    return EXIT_USAGE;
}

static int run_command(struct args *args, int argc, char **argv, int at)
{
    const struct command *command = args->command;
    if (!args_take(args, argc, argv, at))
        return EXIT_USAGE;
    if (args_flag(args, "help")) {
        print_command(command);
        return EXIT_DONE;
    }
    bool few = args->word_count < (size_t)command->words_min;
    bool many = command->words_max >= 0 && args->word_count > (size_t)command->words_max;
    if (few || many) {
        say("too %s arguments: kho %s %s", few ? "few" : "many", command->words,
            command->arguments);
        return EXIT_USAGE;
    }
    return command->run(args);
}

static int dispatch(struct args *args, int argc, char **argv)
{
    int at = 1;
    if (at < argc && strcmp(argv[at], "--version") == 0)
        return printf("kho %s\n", kho_version_string()), EXIT_DONE;
    while (at < argc && argv[at][0] == '-')
        if (!args_take_option(args, NULL, argc, argv, &at))
            return EXIT_USAGE;
    if (at == argc || strcmp(argv[at], "help") == 0)
        return help(argc, argv, at == argc ? at : at + 1) != EXIT_DONE ||
                       (at == argc && !args_flag(args, "help"))
                   ? EXIT_USAGE
                   : EXIT_DONE;
    if (strcmp(argv[at], "version") == 0)
        return printf("kho %s\n", kho_version_string()), EXIT_DONE;
    int first = at;
    args->command = find(argc, argv, &at);
    if (args->command == NULL) {
        if (args_flag(args, "help"))
            return help(argc, argv, first);
        bool more = first + 1 < argc;
        if (more && (strcmp(argv[first + 1], "--help") == 0 || strcmp(argv[first + 1], "-h") == 0))
            return help(argc, argv, first);
        return unknown(argv[first], more);
    }
    return run_command(args, argc, argv, at);
}

int main(int argc, char **argv)
{
    struct args args = {.command = NULL};
    /* A peer or a reader that went away is an error to be told, not a reason to die. */
    signal(SIGPIPE, SIG_IGN);
    int code = dispatch(&args, argc, argv);
    args_fini(&args);
    if (!print_flush() && code == EXIT_DONE)
        code = EXIT_OTHER;
    return code;
}
