/* SPDX-License-Identifier: Apache-2.0 */
/* mobo: the table of commands, and how one is found and run. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "mobo/log.h"

/* clang-format off */
const struct cli_command cli_commands[] = {
	{ "run", "[OPTION]...", "run a throw-away machine, its serial console in the terminal",
	  cli_settings_help, cmd_run },
	{ "create", "NAME [--folder DIR] [OPTION]...", "make a machine", cli_settings_help, cmd_create },
	{ "list", "", "list the machines", "", cmd_list },
	{ "show", "NAME", "show a machine: state, engine, settings", "", cmd_show },
	{ "set", "NAME [KEY=VALUE]...", "change settings; without any, list them all",
	  "  mobo set web memory=2G cpu.count=2\n", cmd_set },
	{ "unset", "NAME KEY...", "put settings back to their defaults", "", cmd_unset },
	{ "start", "NAME [--paused]", "start a machine", "", cmd_start },
	{ "stop", "NAME [--timeout SECONDS] [--force]",
	  "shut a machine down: power button, after the time-out the power is cut",
	  "  --timeout SECONDS    how long the guest may take (default 60)\n"
	  "  --force              cut the power at once\n", cmd_stop },
	{ "pause", "NAME", "stop the guest's clock and CPUs", "", cmd_pause },
	{ "resume", "NAME", "go on after a pause", "", cmd_resume },
	{ "reset", "NAME", "press the reset button", "", cmd_reset },
	{ "powerbutton", "NAME", "press the power button", "", cmd_powerbutton },
	{ "poweroff", "NAME", "cut the power", "", cmd_poweroff },
	{ "delete", "NAME [--yes] [--dry-run]", "remove a machine and its files", "", cmd_delete },
	{ "register", "FOLDER", "adopt a machine's folder", "", cmd_register },
	{ "unregister", "NAME", "forget a machine; its files stay", "", cmd_unregister },
	{ "console", "NAME [DEVICE]", "the serial console in this terminal; Ctrl-] leaves it", "",
	  cmd_console },
	{ "screenshot", "NAME [FILE.png]", "save the screen as PNG; - is standard output", "",
	  cmd_screenshot },
	{ "screen", "NAME", "print the text on the screen", "", cmd_screen },
	{ "type", "[--interval MS] NAME TEXT", "type text on the guest's keyboard",
	  "  \\n, \\t, \\e and \\b in TEXT are Enter, Tab, Escape and Backspace.\n"
	  "  mobo type web 'root\\n'\n", cmd_type },
	{ "key", "NAME CHORD...", "press keys together",
	  "  ctrl alt shift super altgr enter esc tab space backspace delete insert home end\n"
	  "  pageup pagedown up down left right capslock numlock scrolllock sysrq pause f1..f12,\n"
	  "  letters, digits, or Linux key codes.\n"
	  "  mobo key web ctrl-alt-delete\n", cmd_key },
	{ "mouse", "NAME move DX DY | wheel DZ | click|press|release left|right|middle",
	  "move and click the guest's mouse", "", cmd_mouse },
	{ "events", "[NAME] [--follow] [--topic PREFIX] [--since N]",
	  "print events: of a machine, or of the registry", "", cmd_events },
	{ "wait", "NAME --state STATE | --serial TEXT | --screen TEXT [--timeout SECONDS]",
	  "wait for a state, or for text on the serial console or the screen",
	  "  mobo wait web --serial 'login:' --timeout 120\n", cmd_wait },
	{ "ps", "NAME", "the processes of a machine, with CPU time and memory", "", cmd_ps },
	{ "log", "NAME [--follow] [--lines N]", "the merged log of a machine's processes", "", cmd_log },
	{ "device list", "NAME", "the devices and what they claim", "", cmd_device_list },
	{ "device regs", "NAME DEVICE", "the registers of a device", "", cmd_device_regs },
	{ "cpu", "NAME [N]", "the registers of a virtual CPU", "", cmd_cpu },
	{ "debug", "NAME registers|memory|disassemble|blocks|exits|gdb [ARGUMENT]... [OPTION]...",
	  "look into the CPUs, or let gdb debug the guest", debug_help, cmd_debug },
	{ "stats", "NAME", "counters of the engine", "", cmd_stats },
	{ "disk create", "FILE [SIZE] [--format raw|qcow2] [--backing FILE]", "make a disk image", "",
	  cmd_disk_create },
	{ "disk info", "FILE", "what an image is", "", cmd_disk_info },
	{ "disk resize", "FILE [+]SIZE", "grow an image", "", cmd_disk_resize },
	{ "disk convert", "[--format F] FROM TO", "convert an image (with qemu-img)", "",
	  cmd_disk_convert },
	{ "cd insert", "NAME FILE [--unit N]", "put a CD-ROM image into a running machine", "",
	  cmd_cd_insert },
	{ "cd eject", "NAME [--unit N] [--force]", "take the CD-ROM out", "", cmd_cd_eject },
	{ "doctor", "", "check this host", "", cmd_doctor },
	{ "bench", "[SUITE]... [--quick] [--peer NAME]... [--kernel FILE]",
	  "measure Mobo beside its peers", bench_help, cmd_bench },
	{ "help", "[COMMAND]", "how to use a command", "", cmd_help },
};
/* clang-format on */
const unsigned n_cli_commands = MOBO_ARRAY_LEN(cli_commands);

static void on_interrupt(void *arg, int signum)
{
	struct cli *cli = arg;

	(void)signum;
	if (cli->interrupted) {
		exit(CLI_INTERRUPTED);
	}
	cli->interrupted = true;
	mobo_loop_stop(cli->loop); /* every wait ends, what comes after it does not wait */
}

/* The command of the first one or two words; *used how many. */
static const struct cli_command *find(char **words, int n, int *used)
{
	char two[64];

	for (*used = n >= 2 ? 2 : n; *used >= 1; (*used)--) {
		snprintf(two, sizeof(two), *used == 2 ? "%s %s" : "%s", words[0],
			 *used == 2 ? words[1] : "");
		for (unsigned i = 0; i < n_cli_commands; i++) {
			if (strcmp(two, cli_commands[i].name) == 0) {
				return &cli_commands[i];
			}
		}
	}
	return NULL;
}

int cmd_help(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *c;
	int used;

	if (argc > 1) {
		c = find(argv + 1, argc - 1, &used);
		if (!c) {
			return cli_fail(cli, CLI_USAGE,
					"no command is called `%s`; `mobo help` lists them",
					argv[1]);
		}
		printf("usage: mobo [--json] %s %s\n\n%c%s.\n%s%s", c->name, c->args,
		       c->summary[0] - 'a' + 'A', c->summary + 1, *c->help ? "\n" : "", c->help);
		return CLI_OK;
	}
	printf("usage: mobo [--json] COMMAND [ARGUMENT]...\n\n");
	for (unsigned i = 0; i < n_cli_commands; i++) {
		printf("  %-14s %s\n", cli_commands[i].name, cli_commands[i].summary);
	}
	printf("\n`mobo help COMMAND` says more. A first machine:\n"
	       "  mobo run --kernel vmlinuz --initrd initrd.img --append console=ttyS0\n");
	return CLI_OK;
}

/* Options of mobo itself stand before the command; --json may stand anywhere before a `--`. */
static int global_options(struct cli *cli, int argc, char **argv)
{
	int kept = 1;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			while (i < argc) {
				argv[kept++] = argv[i++];
			}
			break;
		}
		if (strcmp(argv[i], "--json") == 0) {
			cli->json = true;
		} else if (kept == 1 && strcmp(argv[i], "--version") == 0) {
			puts("mobo " MOBO_VERSION);
			exit(CLI_OK);
		} else if (kept == 1 &&
			   (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
			argv[kept++] = "help";
		} else {
			argv[kept++] = argv[i];
		}
	}
	argv[kept] = NULL;
	return kept;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
	int used, status;

	if (argc < 2) {
		cmd_help(cli, 1, argv);
		return CLI_USAGE;
	}
	cli->command = find(argv + 1, argc - 1, &used);
	if (!cli->command) {
		return cli_fail(cli, CLI_USAGE, "no command is called `%s`; `mobo help` lists them",
				argv[1]);
	}
	if (argc - used > 1 && strcmp(argv[used + 1], "--help") == 0) {
		return cmd_help(cli, used + 1, argv);
	}
	if (mobo_loop_create(&cli->loop) < 0) {
		return cli_fail(cli, CLI_FAILED, "no memory");
	}

	struct mobo_watch *sigint = mobo_loop_signal(cli->loop, SIGINT, on_interrupt, cli);
	struct mobo_watch *sigterm = mobo_loop_signal(cli->loop, SIGTERM, on_interrupt, cli);

	status = cli->command->run(cli, argc - used, argv + used);
	if (cli->machine) {
		mobo_bus_close(cli->machine);
	}
	if (cli->registry) {
		mobo_bus_close(cli->registry);
	}
	mobo_watch_destroy(sigint);
	mobo_watch_destroy(sigterm);
	mobo_loop_destroy(cli->loop);
	return status;
}

int main(int argc, char **argv)
{
	struct cli cli = {0};

	mobo_log_init("mobo");
	mobo_log_set_level(getenv("MOBO_LOG") ? mobo_log_level() : MOBO_LOG_WARNING);
	signal(SIGPIPE, SIG_IGN);
	return run_command(&cli, global_options(&cli, argc, argv), argv);
}
