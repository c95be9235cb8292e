/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packets of the GDB remote serial protocol: their frame and acknowledgement, those that are
 * unknown or malformed, garbage. They are as the GDB manual, appendix E, has them.
 */
#include "debug_rsp_rig.h"

static void packets_are_acknowledged_until_told_not_to(void **state)
{
	feed("$qC#b4");
	assert_string_equal(sent(), "+$QC1#c5");
	feed("+");
	assert_string_equal(sent(), "");
	ask("QStartNoAckMode");
	assert_string_equal(sent(), "+$OK#9a");
	feed("+$qC#b4");
	assert_string_equal(sent(), "$QC1#c5");
}

static void wrong_checksum_is_refused_and_nothing_done(void **state)
{
	feed("$M1000,1:55#00");
	assert_string_equal(sent(), "-");
	assert_int_equal(t.memory[0], 0);
	feed("$qC#zz");
	assert_string_equal(sent(), "-");
	feed("$qC#b4");
	assert_string_equal(sent(), "+$QC1#c5");
}

static void refused_reply_is_sent_again(void **state)
{
	EXPECT("qC", "QC1");
	feed("-");
	assert_string_equal(sent(), "$QC1#c5");
}

static void packet_may_come_byte_by_byte_amid_noise(void **state)
{
	const char *p = "xyz+\n$qC#b4";

	for (; *p; p++) {
		rsp_feed(&rsp, (const uint8_t *)p, 1);
	}
	assert_string_equal(reply(), "QC1");
	feed("$qf$qC#b4"); /* the end of the first was lost */
	assert_string_equal(reply(), "QC1");
}

static void packet_beyond_the_size_is_refused(void **state)
{
	static char big[RSP_PACKET + 100];

	memset(big, 'a', sizeof(big));
	big[0] = 'X';
	ask_bytes(big, sizeof(big));
	assert_string_equal(sent(), "-");
	EXPECT("qC", "QC1");
	ask_bytes(big, RSP_PACKET);
	assert_string_equal(reply(), "E16");
}

static void unknown_packets_have_an_empty_reply(void **state)
{
	static const char *const unknown[] = {"",	  "vMustReplyEmpty",
					      "qTStatus", "Z9,1000,1",
					      "jx",	  "!",
					      "qRcmd,00", "bs",
					      "_M",	  "QThreadEvents:1"};

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		EXPECT(unknown[i], "");
	}
}

static void malformed_packets_are_errors(void **state)
{
	static const char *const bad[] = {
		"m",
		"m1000",
		"m1000,",
		"mxyz,4",
		"m1000,4q",
		"m11111111111111111,1",
		"M1000,2:11",
		"M1000,1:1",
		"M1000,1:gg",
		"M1000,1",
		"X1000,3:ab",
		"G00",
		"Gzz",
		"P",
		"P0",
		"P0=00",
		"Pffff=00",
		"p",
		"pffffffff",
		"p0x",
		"H",
		"Hx1",
		"Hg3",
		"Hg-2",
		"T",
		"T0",
		"T3",
		"Z0",
		"Z0,1000",
		"Z0,1000,1x",
		"Z2,1000,0",
		"Z2,1000,99999",
		"vCont",
		"vCont;",
		"vCont;q",
		"vCont;c:9",
		"vCont;C",
		"vCont;c:1x",
		"c1000x",
		"C",
		"S05x",
		"qXfer:features:read:target.xml:0",
		"qThreadExtraInfo,0",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ask(bad[i]);
		assert_int_equal(reply()[0], 'E');
		assert_false(rsp.running);
	}
	assert_int_equal(t.n_resumes, 0);
	assert_int_equal(t.stepped, -1);
}

static void nul_bytes_in_a_packet_end_what_is_read_of_it(void **state)
{
	static const char packet[] = "m1000,4\0,,,,";

	ask_bytes(packet, sizeof(packet) - 1);
	assert_string_equal(reply(), "00010203");
}

static void any_garbage_is_survived(void **state)
{
	static const char alphabet[] = "$#}*+-\x03mMXZzgGpPqvHTcsCS?0123456789abcdef,:;=\0\xff";
	uint64_t rng = 88172645463325252ull;

	for (unsigned i = 0; i < 300000; i++) {
		uint8_t c;

		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
		c = (uint8_t)alphabet[rng % sizeof(alphabet)];
		rsp_feed(&rsp, &c, 1);
		if (rng >> 60 == 0) {
			rsp_stopped(&rsp, rng >> 50 & 1, RSP_STOP_BREAKPOINT, BASE);
		}
		rsp_sent(&rsp, rsp.n_out);
		rsp.ended = false;
	}
	feed("##");
	rsp.running = false;
	rsp_sent(&rsp, rsp.n_out);
	ask("g");
	assert_int_equal(rsp.out[rsp.no_ack ? 0 : 1], '$');
}

static void garbage_in_well_formed_packets_is_survived(void **state)
{
	static const char alphabet[] = "mMXZzgGpPqvHTcsCSCont?0123456789abcdef,:;=-";
	uint64_t rng = 1234567891011ull;
	char content[24];

	for (unsigned i = 0; i < 100000; i++) {
		unsigned n = i % sizeof(content);

		for (unsigned k = 0; k < n; k++) {
			rng ^= rng << 13;
			rng ^= rng >> 7;
			rng ^= rng << 17;
			content[k] = alphabet[rng % (sizeof(alphabet) - 1)];
		}
		ask_bytes(content, n);
		rsp_stopped(&rsp, 0, RSP_STOP_WATCHPOINT, BASE);
		rsp_sent(&rsp, rsp.n_out);
		rsp.ended = false;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(packets_are_acknowledged_until_told_not_to),
		TEST(wrong_checksum_is_refused_and_nothing_done),
		TEST(refused_reply_is_sent_again),
		TEST(packet_may_come_byte_by_byte_amid_noise),
		TEST(packet_beyond_the_size_is_refused),
		TEST(unknown_packets_have_an_empty_reply),
		TEST(malformed_packets_are_errors),
		TEST(nul_bytes_in_a_packet_end_what_is_read_of_it),
		TEST(any_garbage_is_survived),
		TEST(garbage_in_well_formed_packets_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
