/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's screen: as a PNG file, as text. */
#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "mobo/v1/display.pb-c.h"

/* XRGB8888 little endian to an RGB PNG. 0 or -errno. */
static int write_png(FILE *f, const uint8_t *pixels, unsigned width, unsigned height,
		     unsigned stride)
{
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
	png_infop info = png ? png_create_info_struct(png) : NULL;
	uint8_t *volatile row = malloc((size_t)width * 3 + 1);

	if (!info || !row || setjmp(png_jmpbuf(png))) {
		free(row);
		png_destroy_write_struct(&png, &info);
		return -EIO;
	}
	png_init_io(png, f);
	png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
		     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	png_write_info(png, info);
	for (unsigned y = 0; y < height; y++) {
		const uint8_t *p = pixels + (size_t)y * stride;

		for (unsigned x = 0; x < width; x++) {
			row[3 * x] = p[4 * x + 2];
			row[3 * x + 1] = p[4 * x + 1];
			row[3 * x + 2] = p[4 * x];
		}
		png_write_row(png, row);
	}
	png_write_end(png, info);
	png_destroy_write_struct(&png, &info);
	free(row);
	return 0;
}

static int save_surface(struct cli *cli, const Mobo__V1__Surface *s, const char *file)
{
	struct stat st;
	uint8_t *pixels;
	FILE *f;
	int fd, status = cli_redeem(cli, &s->ticket, &fd);

	if (status != CLI_OK) {
		return status;
	}
	if (fstat(fd, &st) < 0 || s->stride < s->width * 4ull ||
	    (uint64_t)s->stride * s->height > (uint64_t)st.st_size) {
		close(fd);
		return cli_fail(cli, CLI_FAILED, "the display's answer does not fit its memory");
	}
	pixels = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (pixels == MAP_FAILED) {
		return cli_fail(cli, CLI_FAILED, "cannot map the picture: %s", strerror(errno));
	}
	f = strcmp(file, "-") == 0 ? stdout : fopen(file, "wb");
	if (!f) {
		munmap(pixels, (size_t)st.st_size);
		return cli_fail(cli, CLI_FAILED, "cannot write %s: %s", file, strerror(errno));
	}

	int ret = write_png(f, pixels, s->width, s->height, s->stride);

	munmap(pixels, (size_t)st.st_size);
	if ((f != stdout && fclose(f) != 0) || ret < 0) {
		return cli_fail(cli, CLI_FAILED, "cannot write %s: %s", file, strerror(errno));
	}
	return CLI_OK;
}

int cmd_screenshot(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__Screenshot req = MOBO__V1__SCREENSHOT__INIT;
	Mobo__V1__Surface *s = NULL;
	char name[256];
	const char *file = argc == 3 ? argv[2] : name;
	int status;

	if (argc != 2 && argc != 3) {
		return cli_usage(cli);
	}
	snprintf(name, sizeof(name), "%s.png", argv[1]);
	status = cli_machine(cli, argv[1]);
	if (status == CLI_OK) {
		status = cli_call(cli, cli->machine, &req.base, 0, (ProtobufCMessage **)&s);
	}
	if (status == CLI_OK) {
		status = save_surface(cli, s, file);
	}
	if (status == CLI_OK && strcmp(file, "-") != 0) {
		cli_say(cli, "%s: %ux%u", file, s->width, s->height);
	}
	cli_free(s);
	return status;
}

int cmd_screen(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__GetScreenText req = MOBO__V1__GET_SCREEN_TEXT__INIT;
	Mobo__V1__ScreenText *text = NULL;
	int status;

	if (argc != 2) {
		return cli_usage(cli);
	}
	status = cli_machine(cli, argv[1]);
	if (status == CLI_OK) {
		status = cli_call(cli, cli->machine, &req.base, 0, (ProtobufCMessage **)&text);
	}
	if (status == CLI_OK && cli->json) {
		cli_print_json(cli_json(&text->base));
	} else if (status == CLI_OK) {
		for (size_t i = 0; i < text->n_rows; i++) {
			puts(text->rows[i]);
		}
	}
	cli_free(text);
	return status;
}
