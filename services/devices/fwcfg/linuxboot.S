/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option ROM that starts the kernel of the firmware configuration device. The firmware runs it as a
 * boot entry vector (PnP BIOS specification 1.0a, 3.2; BIOS Boot Specification 1.01, 3.3). It moves
 * set-up code, command line, kernel and initial RAM disk to the addresses that the device names,
 * by the device's DMA, which reaches all of memory, and enters the set-up code as the Linux boot
 * protocol asks (Documentation/arch/x86/boot.rst, "Running the Kernel"). The header was filled in
 * by the device already (kernel.c).
 */
	.code16
	.text

	.set	DMA_HIGH, 0x514
	.set	DMA_LOW, 0x518
	.set	DMA_ERROR, 1
	.set	DMA_READ_SELECT, 2 | 8
	.set	STACK_TOP, 0x7c00

	/* Item keys. */
	.set	KERNEL_ADDR, 0x07
	.set	KERNEL_SIZE, 0x08
	.set	KERNEL_DATA, 0x11
	.set	INITRD_ADDR, 0x0a
	.set	INITRD_SIZE, 0x0b
	.set	INITRD_DATA, 0x12
	.set	CMDLINE_ADDR, 0x13
	.set	CMDLINE_SIZE, 0x14
	.set	CMDLINE_DATA, 0x15
	.set	SETUP_ADDR, 0x16
	.set	SETUP_SIZE, 0x17
	.set	SETUP_DATA, 0x18

header:
	.byte	0x55, 0xaa
	.byte	0			/* blocks of 512 bytes: embed.py */
	jmp	init
	.org	0x18
	.word	0			/* no PCI data structure */
	.word	pnp

	.balign	16
pnp:
	.ascii	"$PnP"
	.byte	1			/* revision */
	.byte	(pnp_end - pnp) / 16
	.word	0			/* no further header */
	.byte	0
	.byte	0			/* checksum: firmware looks at the ROM's alone */
	.long	0			/* device identifier */
	.word	manufacturer
	.word	product
	.byte	0, 0, 0			/* device type */
	.byte	0x04			/* an initial program load device */
	.word	0			/* boot connection vector */
	.word	0			/* disconnect vector */
	.word	boot			/* bootstrap entry vector */
	.word	0
	.word	0			/* static resources */
pnp_end:

manufacturer:
	.asciz	"Mobo"
product:
	.asciz	"Linux kernel"
failure:
	.asciz	"The kernel could not be loaded.\r\n"

init:
	movw	$0x20, %ax		/* an IPL device is attached */
	lretw

/*
 * What to move: keys of address, size and data, twelve bytes a row.
 */
	.balign	4
parts:
	.long	SETUP_ADDR << 16, SETUP_SIZE << 16, SETUP_DATA << 16
	.long	CMDLINE_ADDR << 16, CMDLINE_SIZE << 16, CMDLINE_DATA << 16
	.long	KERNEL_ADDR << 16, KERNEL_SIZE << 16, KERNEL_DATA << 16
	.long	INITRD_ADDR << 16, INITRD_SIZE << 16, INITRD_DATA << 16
parts_end:

boot:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ss
	movl	$STACK_TOP, %esp
	movw	%ax, %es
	movw	%cs, %ax
	movw	%ax, %ds

	movw	$parts, %si
1:	movl	4(%si), %eax
	call	get_number
	pushl	%eax			/* how much */
	movl	(%si), %eax
	call	get_number
	movl	%eax, %edi		/* where to */
	popl	%ecx
	movl	8(%si), %eax
	call	transfer
	addw	$12, %si
	cmpw	$parts_end, %si
	jb	1b

	movl	$SETUP_ADDR << 16, %eax
	call	get_number
	movl	%eax, %ebx
	movl	$CMDLINE_ADDR << 16, %eax
	call	get_number
	subl	%ebx, %eax		/* the heap and stack end where the command line begins */
	subl	$16, %eax
	shrl	$4, %ebx

	/* All data segments and the stack at the set-up code; 0x200 into it is the entry. */
	movw	%bx, %ss
	movl	%eax, %esp
	movw	%bx, %ds
	movw	%bx, %es
	movw	%bx, %fs
	movw	%bx, %gs
	addw	$0x20, %bx
	pushw	%bx
	pushw	$0
	xorl	%eax, %eax
	xorl	%ebx, %ebx
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%esi, %esi
	xorl	%edi, %edi
	xorl	%ebp, %ebp
	lretw

/* eax: key << 16. Returns the item's first four bytes in eax. Changes ecx, edi, edx. */
get_number:
	pushl	$0
	movl	%esp, %edi
	movl	$4, %ecx
	call	transfer
	popl	%eax
	retw

/*
 * eax: key << 16, ecx: bytes, edi: physical address. Does not return when the device says no.
 * The request lies on the stack, whose segment is 0: its offset is its physical address.
 */
transfer:
	orl	$DMA_READ_SELECT, %eax
	bswapl	%eax
	bswapl	%ecx
	bswapl	%edi
	pushl	%edi			/* address, low half */
	pushl	$0			/* high half */
	pushl	%ecx
	pushl	%eax
	movl	%esp, %ebp
	xorl	%eax, %eax
	movw	$DMA_HIGH, %dx
	outl	%eax, %dx
	movl	%ebp, %eax
	bswapl	%eax
	movw	$DMA_LOW, %dx
	outl	%eax, %dx
2:	movl	%ss:(%bp), %eax
	bswapl	%eax
	testl	$DMA_ERROR, %eax
	jnz	fail
	testl	%eax, %eax
	jnz	2b
	addw	$16, %sp
	retw

fail:
	movw	$failure, %si
3:	lodsb
	testb	%al, %al
	jz	4f
	movb	$0x0e, %ah
	movw	$7, %bx
	int	$0x10
	jmp	3b
4:	sti
	int	$0x18			/* try the next boot device */
5:	hlt
	jmp	5b

	.section .note.GNU-stack, "", @progbits
