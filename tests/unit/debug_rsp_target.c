/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gdb does to a machine by the remote serial protocol: registers and their description,
 * memory, points, going on, steps, stops. Packets and replies are as the GDB manual, appendix E,
 * has them.
 */
#include "debug_rsp_rig.h"

static void registers_are_in_the_order_of_the_description(void **state)
{
	t.regs[0].gpr[0] = 0x1122334455667788; /* rax */
	t.regs[0].gpr[3] = 0xb;		       /* rbx */
	t.regs[0].rip = 0xffffffff81000000;
	t.regs[0].rflags = 0x246;
	t.regs[0].selector[0] = 0x10;
	EXPECT("p0", "8877665544332211");
	EXPECT("p1", "0b00000000000000");
	EXPECT("p10", "00000081ffffffff");
	EXPECT("p11", "46020000");
	EXPECT("p12", "10000000");
	ask("g");
	assert_memory_equal(reply(), "88776655443322110b00000000000000", 32);
}

static void g_has_every_register_and_g_back_changes_nothing(void **state)
{
	char packet[8192] = "G";
	struct rsp_regs was;
	unsigned bytes = 0;

	for (size_t i = 0; i < sizeof(was); i++) {
		((uint8_t *)&t.regs[0])[i] = (uint8_t)(i * 7 + 1);
	}
	was = t.regs[0];
	for (unsigned n = 0; n < rsp_n_regs(false); n++) {
		bytes += rsp_reg_len(n, false);
	}
	/* 16 + 1 + 2 + 7 of 8 bytes, 1 + 6 + 8 + 1 of 4, 8 of 10, 16 of 16 */
	assert_int_equal(bytes, 26 * 8 + 16 * 4 + 8 * 10 + 16 * 16);
	ask("g");
	strcpy(packet + 1, reply());
	assert_int_equal(strlen(packet + 1), 2 * bytes);
	EXPECT(packet, "OK");
	assert_memory_equal(&t.regs[0], &was, sizeof(was));
}

static void register_writes_reach_the_chosen_cpu(void **state)
{
	EXPECT("Hg2", "OK");
	EXPECT("P0=0100000000000080", "OK");
	assert_true(t.regs[1].gpr[0] == 0x8000000000000001);
	assert_true(t.regs[0].gpr[0] == 0);
	EXPECT("P12=33000000", "E01"); /* cs */
	EXPECT("P12=00000000", "OK");  /* as it is */
}

static void x87_tags_are_full_words(void **state)
{
	uint8_t *x = t.regs[0].xsave;
	const uint8_t one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};

	EXPECT("p22", "ffff0000"); /* ftag: all are empty */
	x[3] = 6 << 3;		   /* TOP 6: st0 is physical 6, st1 7, st2 0 */
	x[4] = 0xc1;		   /* 6, 7 and 0 are in use */
	memcpy(x + 32, one, 10);
	memcpy(x + 32 + 32, "\0\0\0\0\0\0\0\x80\xff\x7f", 10); /* st2: infinity */
	/* physical 7 is zero (1), 6 valid (0), 5 to 1 empty (3), 0 special (2) */
	EXPECT("p22", "fe4f0000");
	EXPECT("P22=ffff0000", "OK");
	assert_int_equal(x[4], 0);
}

static void avx_is_shown_where_there_is_some(void **state)
{
	static char xml[RSP_XML];
	unsigned first = rsp_n_regs(false);

	assert_int_equal(rsp_n_regs(true), first + 16);
	assert_int_equal(rsp_reg_len(first, false), 0);
	rsp_xml(xml, sizeof(xml), false);
	assert_null(strstr(xml, "ymm"));
	rsp_xml(xml, sizeof(xml), true);
	assert_non_null(strstr(xml, "<reg name=\"ymm15h\" bitsize=\"128\""));
	rsp.avx = true;
	t.regs[0].xsave[576 + 16] = 0x5a;
	ask("p43");
	assert_int_equal(first + 1, 0x43);
	assert_string_equal(reply(), "5a000000000000000000000000000000");
}

static void description_comes_in_pieces(void **state)
{
	static char xml[RSP_XML], got[RSP_XML];
	size_t n = rsp_xml(xml, sizeof(xml), false), at = 0;
	char question[80];
	const char *r;

	do {
		snprintf(question, sizeof(question), "qXfer:features:read:target.xml:%zx,3fb", at);
		ask(question);
		r = reply();
		strcpy(got + at, r + 1);
		at += strlen(r + 1);
	} while (r[0] == 'm');
	assert_int_equal(r[0], 'l');
	assert_int_equal(at, n);
	assert_string_equal(got, xml);
	EXPECT("qXfer:features:read:target.xml:ffff,100", "l");
	EXPECT("qXfer:features:read:other.xml:0,100", "");
}

static void memory_is_read_as_far_as_there_is_some(void **state)
{
	EXPECT("m1010,4", "10111213");
	EXPECT("m1ffe,10", "feff");
	EXPECT("m2000,1", "E0e");
	ask("m1000,ffffffff");
	assert_int_equal(strlen(reply()), SIZE * 2);
}

static void memory_is_written_in_hex_and_in_binary(void **state)
{
	static const char x[] = "X1008,5:\x01}\x03}]}\x0a\x00";
	static const uint8_t want[] = {1, '#', '}', '*', 0};

	EXPECT("M1000,3:aabbcc", "OK");
	assert_int_equal(t.memory[2], 0xcc);
	ask_bytes(x, sizeof(x) - 1);
	assert_string_equal(reply(), "OK");
	assert_memory_equal(t.memory + 8, want, sizeof(want));
	EXPECT("X0,0:", "OK"); /* gdb asks so whether X is known */
	EXPECT("M2000,1:00", "E0e");
}

static void points_reach_the_target_once_before_it_goes_on(void **state)
{
	EXPECT("Z0,ffffffff81000000,1", "OK");
	EXPECT("Z0,ffffffff81000000,1", "OK");
	EXPECT("Z2,1800,8", "OK");
	EXPECT("Z1,1900,1", "OK");
	EXPECT("z1,1900,1", "OK");
	EXPECT("z1,1900,1", "OK");
	assert_int_equal(t.n_point_calls, 0);
	ask("c");
	assert_string_equal(sent(), "+");
	assert_int_equal(t.n_point_calls, 1);
	assert_int_equal(t.n_points, 2);
	assert_true(t.points[0].kind == RSP_BREAKPOINT &&
		    t.points[0].address == 0xffffffff81000000 && t.points[0].len == 1);
	assert_true(t.points[1].kind == RSP_WRITE && t.points[1].len == 8);
	rsp_stopped(&rsp, 1, RSP_STOP_WATCHPOINT, 0x1804);
	assert_string_equal(reply(), "T05thread:2;watch:1800;");
	ask("c");
	assert_int_equal(t.n_point_calls, 1);
}

static void more_points_than_there_is_room_for_are_refused(void **state)
{
	char question[32];

	for (unsigned i = 0; i < RSP_POINTS; i++) {
		snprintf(question, sizeof(question), "Z0,%x,1", 0x1000 + i);
		EXPECT(question, "OK");
	}
	EXPECT("Z0,5000,1", "E1c");
	EXPECT("z0,1000,1", "OK");
	EXPECT("Z0,5000,1", "OK");
}

static void stops_say_why(void **state)
{
	EXPECT("?", "T05thread:1;");
	ask("c");
	sent();
	rsp_stopped(&rsp, 0, RSP_STOP_BREAKPOINT, 0x1000);
	assert_string_equal(reply(), "T05thread:1;"); /* nobody asked for more */
	ask("qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+");
	assert_non_null(strstr(reply(), "swbreak+"));
	EXPECT("Z1,2000,1", "OK");
	ask("c");
	sent();
	rsp_stopped(&rsp, 0, RSP_STOP_BREAKPOINT, 0x1000);
	assert_string_equal(reply(), "T05thread:1;swbreak:;");
	ask("c");
	sent();
	rsp_stopped(&rsp, 0, RSP_STOP_BREAKPOINT, 0x2000);
	assert_string_equal(reply(), "T05thread:1;hwbreak:;");
	EXPECT("?", "T05thread:1;hwbreak:;");
	rsp_stopped(&rsp, 0, RSP_STOP_STEP, 0); /* it does not run */
	assert_string_equal(sent(), "");
}

static void interruption_is_for_a_running_machine(void **state)
{
	feed("\x03");
	assert_int_equal(t.n_interrupts, 0);
	ask("vCont;c");
	assert_int_equal(t.n_resumes, 1);
	feed("\x03");
	assert_int_equal(t.n_interrupts, 1);
	sent();
	rsp_stopped(&rsp, 1, RSP_STOP_INTERRUPT, 0);
	assert_string_equal(reply(), "T02thread:2;");
}

static void steps_name_their_cpu(void **state)
{
	EXPECT("vCont?", "vCont;c;C;s;S");
	EXPECT("vCont;s:2", "T05thread:2;");
	assert_int_equal(t.stepped, 1);
	assert_true(t.alone);
	EXPECT("vCont;s:1;c", "T05thread:1;");
	assert_int_equal(t.stepped, 0);
	assert_false(t.alone);
	EXPECT("s", "T05thread:1;");
	rsp.n_cpus = 1; /* there are no others */
	EXPECT("vCont;s:1;c", "T05thread:1;");
	assert_true(t.alone);
	rsp.n_cpus = 2;
	EXPECT("Hc2", "OK");
	EXPECT("S05;1234", "T05thread:2;");
	assert_true(t.regs[1].rip == 0x1234);
}

static void failure_to_go_on_is_the_reply(void **state)
{
	t.result = -EIO;
	EXPECT("c", "E05");
	assert_false(rsp.running);
	EXPECT("vCont;s:1", "E05");
	EXPECT("?", "T05thread:1;");
}

static void threads_are_cpus(void **state)
{
	EXPECT("qfThreadInfo", "m1,2");
	EXPECT("qsThreadInfo", "l");
	EXPECT("qThreadExtraInfo,2", "4350552031"); /* CPU 1 */
	EXPECT("T1", "OK");
	EXPECT("Hg0", "OK");
	EXPECT("Hc-1", "OK");
}

static void detaching_and_killing_both_let_the_machine_be(void **state)
{
	EXPECT("Z0,1000,1", "OK");
	EXPECT("D", "OK");
	assert_true(rsp.ended);
	assert_int_equal(t.n_detached, 1);
	rsp.ended = false;
	ask("k");
	assert_string_equal(sent(), "+");
	assert_true(rsp.ended);
	rsp.ended = false;
	EXPECT("vKill;1", "OK");
	assert_int_equal(t.n_detached, 3);
}

static void end_of_the_machine_is_told_when_it_runs(void **state)
{
	ask("c");
	sent();
	rsp_exited(&rsp);
	assert_string_equal(reply(), "W00");
	assert_true(rsp.ended);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(registers_are_in_the_order_of_the_description),
		TEST(g_has_every_register_and_g_back_changes_nothing),
		TEST(register_writes_reach_the_chosen_cpu),
		TEST(x87_tags_are_full_words),
		TEST(avx_is_shown_where_there_is_some),
		TEST(description_comes_in_pieces),
		TEST(memory_is_read_as_far_as_there_is_some),
		TEST(memory_is_written_in_hex_and_in_binary),
		TEST(points_reach_the_target_once_before_it_goes_on),
		TEST(more_points_than_there_is_room_for_are_refused),
		TEST(stops_say_why),
		TEST(interruption_is_for_a_running_machine),
		TEST(steps_name_their_cpu),
		TEST(failure_to_go_on_is_the_reply),
		TEST(threads_are_cpus),
		TEST(detaching_and_killing_both_let_the_machine_be),
		TEST(end_of_the_machine_is_told_when_it_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
