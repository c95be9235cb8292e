/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed part of the machine for ACPI: PCI bus and interrupt links, ISA devices, sleep states.
 * References: ACPI 3.0; 82371SB (PIIX3) datasheet for PIRQRC; the board's own port and memory map.
 *
 * LOWM (end of RAM below 4 GiB) and HWCF (what is fitted: 1 COM1, 2 COM2, 4 i8042, 8 HPET) come
 * from the SSDT that acpi.c makes, as do the processors.
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "MOBO  ", "MOBOPC  ", 1)
{
	External (\LOWM, IntObj)
	External (\HWCF, IntObj)

	/* Sleep state types as PIIX4 PMCNTRL.SUS_TYP takes them: 0 is soft off, 5 is working. */
	Name (\_S0, Package () { 5, 5, 0, 0 })
	Name (\_S5, Package () { 0, 0, 0, 0 })

	/* The system says which interrupt model it uses; the links serve both alike. */
	Name (\PICM, 0)
	Method (\_PIC, 1, NotSerialized)
	{
		\PICM = Arg0
	}

	Scope (\_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_BBN, 0)

			/* What the bridge passes on: I/O but for 0xcf8-0xcff, memory holes. */
			Name (CRES, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 0xff, 0, 0x100)
				IO (Decode16, 0x0cf8, 0x0cf8, 1, 8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					EntireRange, 0, 0, 0x0cf7, 0, 0x0cf8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					EntireRange, 0, 0x0d00, 0xffff, 0, 0xf300)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					Cacheable, ReadWrite, 0, 0x000a0000, 0x000bffff, 0, 0x00020000)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite, 0, 0xe0000000, 0xfebfffff, 0, 0x1ec00000,
					,, HOLE, AddressRangeMemory, TypeStatic)
			})
			Method (_CRS, 0, Serialized)
			{
				CreateDWordField (CRES, ^HOLE._MIN, HMIN)
				CreateDWordField (CRES, ^HOLE._MAX, HMAX)
				CreateDWordField (CRES, ^HOLE._LEN, HLEN)
				HMIN = \LOWM
				HLEN = HMAX - HMIN + 1
				Return (CRES)
			}

			/*
			 * Slot s, pin p (A = 0) is wired to PIRQ (s + p - 1) mod 4. Pin A of slot 1
			 * is the power management function, whose interrupt is IRQ 9.
			 */
			Name (_PRT, Package ()
			{
#define FOUR(slot, a, b, c, d)                                    \
				Package () { slot##FFFF, 0, a, 0 }, \
				Package () { slot##FFFF, 1, b, 0 }, \
				Package () { slot##FFFF, 2, c, 0 }, \
				Package () { slot##FFFF, 3, d, 0 }
				FOUR (0x0000, LNKD, LNKA, LNKB, LNKC),
				FOUR (0x0001, LNKS, LNKB, LNKC, LNKD),
				FOUR (0x0002, LNKB, LNKC, LNKD, LNKA),
				FOUR (0x0003, LNKC, LNKD, LNKA, LNKB),
				FOUR (0x0004, LNKD, LNKA, LNKB, LNKC),
				FOUR (0x0005, LNKA, LNKB, LNKC, LNKD),
				FOUR (0x0006, LNKB, LNKC, LNKD, LNKA),
				FOUR (0x0007, LNKC, LNKD, LNKA, LNKB),
				FOUR (0x0008, LNKD, LNKA, LNKB, LNKC),
				FOUR (0x0009, LNKA, LNKB, LNKC, LNKD),
				FOUR (0x000A, LNKB, LNKC, LNKD, LNKA),
				FOUR (0x000B, LNKC, LNKD, LNKA, LNKB),
				FOUR (0x000C, LNKD, LNKA, LNKB, LNKC),
				FOUR (0x000D, LNKA, LNKB, LNKC, LNKD),
				FOUR (0x000E, LNKB, LNKC, LNKD, LNKA),
				FOUR (0x000F, LNKC, LNKD, LNKA, LNKB),
				FOUR (0x0010, LNKD, LNKA, LNKB, LNKC),
				FOUR (0x0011, LNKA, LNKB, LNKC, LNKD),
				FOUR (0x0012, LNKB, LNKC, LNKD, LNKA),
				FOUR (0x0013, LNKC, LNKD, LNKA, LNKB),
				FOUR (0x0014, LNKD, LNKA, LNKB, LNKC),
				FOUR (0x0015, LNKA, LNKB, LNKC, LNKD),
				FOUR (0x0016, LNKB, LNKC, LNKD, LNKA),
				FOUR (0x0017, LNKC, LNKD, LNKA, LNKB),
				FOUR (0x0018, LNKD, LNKA, LNKB, LNKC),
				FOUR (0x0019, LNKA, LNKB, LNKC, LNKD),
				FOUR (0x001A, LNKB, LNKC, LNKD, LNKA),
				FOUR (0x001B, LNKC, LNKD, LNKA, LNKB),
				FOUR (0x001C, LNKD, LNKA, LNKB, LNKC),
				FOUR (0x001D, LNKA, LNKB, LNKC, LNKD),
				FOUR (0x001E, LNKB, LNKC, LNKD, LNKA),
				FOUR (0x001F, LNKC, LNKD, LNKA, LNKB)
			})

			/* PIIX3, function 0: PCI to ISA bridge. */
			Device (ISA)
			{
				Name (_ADR, 0x00010000)
				OperationRegion (PIRQ, PCI_Config, 0x60, 4)
				Field (PIRQ, ByteAcc, NoLock, Preserve)
				{
					PRQA, 8,
					PRQB, 8,
					PRQC, 8,
					PRQD, 8
				}

				Device (RTC)
				{
					Name (_HID, EisaId ("PNP0B00"))
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x70, 0x70, 1, 8)
						IRQNoFlags () { 8 }
					})
				}

				Device (KBD)
				{
					Name (_HID, EisaId ("PNP0303"))
					Method (_STA, 0, NotSerialized)
					{
						Return (STAT (4))
					}
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x60, 0x60, 1, 1)
						IO (Decode16, 0x64, 0x64, 1, 1)
						IRQNoFlags () { 1 }
					})
				}

				Device (MOU)
				{
					Name (_HID, EisaId ("PNP0F13"))
					Method (_STA, 0, NotSerialized)
					{
						Return (STAT (4))
					}
					Name (_CRS, ResourceTemplate ()
					{
						IRQNoFlags () { 12 }
					})
				}

				Device (COM1)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 1)
					Method (_STA, 0, NotSerialized)
					{
						Return (STAT (1))
					}
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x03f8, 0x03f8, 1, 8)
						IRQNoFlags () { 4 }
					})
				}

				Device (COM2)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 2)
					Method (_STA, 0, NotSerialized)
					{
						Return (STAT (2))
					}
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x02f8, 0x02f8, 1, 8)
						IRQNoFlags () { 3 }
					})
				}

				Device (SPKR)
				{
					Name (_HID, EisaId ("PNP0800"))
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x61, 0x61, 1, 1)
					})
				}

				/* The firmware configuration device. */
				Device (FWCF)
				{
					Name (_HID, "QEMU0002")
					Name (_STA, 0x0b) /* not shown in user interfaces */
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x0510, 0x0510, 1, 12)
					})
				}

				/* Ports of the board that nothing else may use: reset, APM. */
				Device (SYSR)
				{
					Name (_HID, EisaId ("PNP0C02"))
					Name (_UID, 1)
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x92, 0x92, 1, 1)
						IO (Decode16, 0xb2, 0xb2, 1, 2)
						IO (Decode16, 0x04d0, 0x04d0, 1, 2)
					})
				}
			}
		}

		/* Status of a device that a bit of HWCF stands for. */
		Method (STAT, 1, NotSerialized)
		{
			If (\HWCF & Arg0)
			{
				Return (0x0f)
			}
			Return (0)
		}

		Device (HPET)
		{
			Name (_HID, EisaId ("PNP0103"))
			Name (_UID, 0)
			Method (_STA, 0, NotSerialized)
			{
				Return (STAT (8))
			}
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadOnly, 0xfed00000, 0x00000400)
			})
		}

		/*
		 * Interrupt links: PIRQRC bit 7 set is "not routed", bits 3:0 are the IRQ, which is the
		 * input of the I/O APIC too.
		 */
		Name (LPRS, ResourceTemplate ()
		{
			Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 5, 10, 11 }
		})
		Method (LSTA, 1, NotSerialized)
		{
			If (Arg0 & 0x80)
			{
				Return (0x09)
			}
			Return (0x0b)
		}
		Name (LRES, ResourceTemplate ()
		{
			Interrupt (ResourceConsumer, Level, ActiveHigh, Shared,,, LINT) { 0 }
		})
		Method (LCRS, 1, Serialized)
		{
			CreateDWordField (LRES, ^LINT._INT, IRQN)
			If (Arg0 & 0x80)
			{
				IRQN = 0
			}
			Else
			{
				IRQN = Arg0 & 0x0f
			}
			Return (LRES)
		}

#define LINK(name, uid, reg)                                                   \
		Device (name)                                                  \
		{                                                              \
			Name (_HID, EisaId ("PNP0C0F"))                        \
			Name (_UID, uid)                                       \
			Method (_STA, 0, NotSerialized)                        \
			{                                                      \
				Return (LSTA (reg))                            \
			}                                                      \
			Method (_PRS, 0, NotSerialized)                        \
			{                                                      \
				Return (LPRS)                                  \
			}                                                      \
			Method (_CRS, 0, NotSerialized)                        \
			{                                                      \
				Return (LCRS (reg))                            \
			}                                                      \
			Method (_SRS, 1, NotSerialized)                        \
			{                                                      \
				/* The number follows tag, length, flags, count. */ \
				CreateDWordField (Arg0, 5, IRQN)               \
				reg = IRQN                                     \
			}                                                      \
			Method (_DIS, 0, NotSerialized)                        \
			{                                                      \
				reg |= 0x80                                    \
			}                                                      \
		}

		LINK (LNKA, 1, \_SB.PCI0.ISA.PRQA)
		LINK (LNKB, 2, \_SB.PCI0.ISA.PRQB)
		LINK (LNKC, 3, \_SB.PCI0.ISA.PRQC)
		LINK (LNKD, 4, \_SB.PCI0.ISA.PRQD)

		/* The system control interrupt, as a link that cannot be moved. */
		Device (LNKS)
		{
			Name (_HID, EisaId ("PNP0C0F"))
			Name (_UID, 5)
			Name (_STA, 0x0b)
			Name (_PRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 9 }
			})
			Method (_CRS, 0, NotSerialized)
			{
				Return (_PRS)
			}
			Method (_SRS, 1, NotSerialized)
			{
			}
			Method (_DIS, 0, NotSerialized)
			{
			}
		}
	}
}
