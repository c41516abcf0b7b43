"""The models of a SunSpec battery inverter as IEEE 1547-2018 knows it (701 to 715), typed by hand
from the SunSpec Alliance's model definitions: 702, 704, 713, 714 and 715 from their point lists;
701, 703, 705, 706, 711 and 712 from its published definitions and from the offsets printed by
other people's transcriptions of them.
"""

from vppd.sim.sunspec.table import Group, Table, points

M701 = Table(
    701,
    points("""
    2 ACType enum16; 3 St enum16; 4 InvSt enum16; 5 ConnSt enum16
    6 Alrm bitfield32; 8 DERMode bitfield32
    10 W int16 W_SF; 11 VA int16 VA_SF; 12 Var int16 Var_SF; 13 PF int16 PF_SF; 14 A int16 A_SF
    15 LLV uint16 V_SF; 16 LNV uint16 V_SF; 17 Hz uint32 Hz_SF
    19 TotWhInj uint64 TotWh_SF; 23 TotWhAbs uint64 TotWh_SF
    27 TotVarhInj uint64 TotVarh_SF; 31 TotVarhAbs uint64 TotVarh_SF
    35 TmpAmb int16 Tmp_SF; 36 TmpCab int16 Tmp_SF; 37 TmpSnk int16 Tmp_SF
    38 TmpTrns int16 Tmp_SF; 39 TmpSw int16 Tmp_SF; 40 TmpOt int16 Tmp_SF
    41 WL1 int16 W_SF; 42 VAL1 int16 VA_SF; 43 VarL1 int16 Var_SF; 44 PFL1 int16 PF_SF
    45 AL1 int16 A_SF; 46 VL1L2 uint16 V_SF; 47 VL1 uint16 V_SF
    48 TotWhInjL1 uint64 TotWh_SF; 52 TotWhAbsL1 uint64 TotWh_SF
    56 TotVarhInjL1 uint64 TotVarh_SF; 60 TotVarhAbsL1 uint64 TotVarh_SF
    64 WL2 int16 W_SF; 65 VAL2 int16 VA_SF; 66 VarL2 int16 Var_SF; 67 PFL2 int16 PF_SF
    68 AL2 int16 A_SF; 69 VL2L3 uint16 V_SF; 70 VL2 uint16 V_SF
    71 TotWhInjL2 uint64 TotWh_SF; 75 TotWhAbsL2 uint64 TotWh_SF
    79 TotVarhInjL2 uint64 TotVarh_SF; 83 TotVarhAbsL2 uint64 TotVarh_SF
    87 WL3 int16 W_SF; 88 VAL3 int16 VA_SF; 89 VarL3 int16 Var_SF; 90 PFL3 int16 PF_SF
    91 AL3 int16 A_SF; 92 VL3L1 uint16 V_SF; 93 VL3 uint16 V_SF
    94 TotWhInjL3 uint64 TotWh_SF; 98 TotWhAbsL3 uint64 TotWh_SF
    102 TotVarhInjL3 uint64 TotVarh_SF; 106 TotVarhAbsL3 uint64 TotVarh_SF
    110 ThrotPct uint16; 111 ThrotSrc bitfield32
    113 A_SF sunssf; 114 V_SF sunssf; 115 Hz_SF sunssf; 116 W_SF sunssf; 117 PF_SF sunssf
    118 VA_SF sunssf; 119 Var_SF sunssf; 120 TotWh_SF sunssf; 121 TotVarh_SF sunssf
    122 Tmp_SF sunssf; 123 MnAlrmInfo string32
    """),
)

M702 = Table(
    702,
    points("""
    2 WMaxRtg uint16 W_SF; 3 WOvrExtRtg uint16 W_SF; 4 WOvrExtRtgPF uint16 PF_SF
    5 WUndExtRtg uint16 W_SF; 6 WUndExtRtgPF uint16 PF_SF; 7 VAMaxRtg uint16 VA_SF
    8 VarMaxInjRtg uint16 Var_SF; 9 VarMaxAbsRtg uint16 Var_SF
    10 WChaRteMaxRtg uint16 W_SF; 11 WDisChaRteMaxRtg uint16 W_SF
    12 VAChaRteMaxRtg uint16 VA_SF; 13 VADisChaRteMaxRtg uint16 VA_SF
    14 VNomRtg uint16 V_SF; 15 VMaxRtg uint16 V_SF; 16 VMinRtg uint16 V_SF; 17 AMaxRtg uint16 A_SF
    18 PFOvrExtRtg uint16 PF_SF; 19 PFUndExtRtg uint16 PF_SF; 20 ReactSusceptRtg uint16 S_SF
    21 NorOpCatRtg enum16; 22 AbnOpCatRtg enum16; 23 CtrlModes bitfield32
    25 IntIslandCatRtg bitfield16
    26 WMax uint16 W_SF rw; 27 WMaxOvrExt uint16 W_SF rw; 28 WOvrExtPF uint16 PF_SF rw
    29 WMaxUndExt uint16 W_SF rw; 30 WUndExtPF uint16 PF_SF rw; 31 VAMax uint16 VA_SF rw
    32 VarMaxInj uint16 Var_SF rw; 33 VarMaxAbs uint16 Var_SF rw
    34 WChaRteMax uint16 W_SF rw; 35 WDisChaRteMax uint16 W_SF rw
    36 VAChaRteMax uint16 VA_SF rw; 37 VADisChaRteMax uint16 VA_SF rw
    38 VNom uint16 V_SF rw; 39 VMax uint16 V_SF rw; 40 VMin uint16 V_SF rw; 41 AMax uint16 A_SF rw
    42 PFOvrExt uint16 PF_SF rw; 43 PFUndExt uint16 PF_SF rw; 44 IntIslandCat bitfield16 rw
    45 W_SF sunssf; 46 PF_SF sunssf; 47 VA_SF sunssf; 48 Var_SF sunssf
    49 V_SF sunssf; 50 A_SF sunssf; 51 S_SF sunssf
    """),
)

M703 = Table(
    703,
    points("""
    2 ES enum16 rw 0..1; 3 ESVHi uint16 V_SF rw 100..120; 4 ESVLo uint16 V_SF rw 80..100
    5 ESHzHi uint32 Hz_SF rw 40..70; 7 ESHzLo uint32 Hz_SF rw 40..70
    9 ESDlyTms uint32 rw 0..600; 11 ESRndTms uint32 rw; 13 ESRmpTms uint32 rw
    15 ESDlyRemTms uint32; 17 V_SF sunssf; 18 Hz_SF sunssf
    """),
)

M704 = Table(
    704,
    points("""
    2 PFWInjEna enum16 rw 0..1; 3 PFWInjEnaRvrt enum16 rw 0..1
    4 PFWInjRvrtTms uint32 rw; 6 PFWInjRvrtRem uint32
    8 PFWAbsEna enum16 rw 0..1; 9 PFWAbsEnaRvrt enum16 rw 0..1
    10 PFWAbsRvrtTms uint32 rw; 12 PFWAbsRvrtRem uint32
    14 WMaxLimPctEna enum16 rw 0..1
    15 WMaxLimPct uint16 WMaxLimPct_SF rw 0..100; 16 WMaxLimPctRvrt uint16 WMaxLimPct_SF rw 0..100
    17 WMaxLimPctEnaRvrt enum16 rw 0..1
    18 WMaxLimPctRvrtTms uint32 rw; 20 WMaxLimPctRvrtRem uint32
    22 WSetEna enum16 rw 0..1; 23 WSetMod enum16 rw 0..1
    24 WSet int32 WSet_SF rw; 26 WSetRvrt int32 WSet_SF rw
    28 WSetPct int16 WSetPct_SF rw -100..100; 29 WSetPctRvrt int16 WSetPct_SF rw -100..100
    30 WSetEnaRvrt enum16 rw 0..1; 31 WSetRvrtTms uint32 rw; 33 WSetRvrtRem uint32
    35 VarSetEna enum16 rw 0..1; 36 VarSetMod enum16 rw 0..4; 37 VarSetPri enum16 rw 0..2
    38 VarSet int32 VarSet_SF rw; 40 VarSetRvrt int32 VarSet_SF rw
    42 VarSetPct int16 VarSetPct_SF rw -100..100; 43 VarSetPctRvrt int16 VarSetPct_SF rw -100..100
    44 VarSetEnaRvrt enum16 rw 0..1; 45 VarSetRvrtTms uint32 rw; 47 VarSetRvrtRem uint32
    49 WRmp uint16 rw; 50 WRmpRef enum16 rw 0..1; 51 VarRmp uint16 rw; 52 AntiIslEna enum16 rw 0..1
    53 PF_SF sunssf; 54 WMaxLimPct_SF sunssf; 55 WSet_SF sunssf; 56 WSetPct_SF sunssf
    57 VarSet_SF sunssf; 58 VarSetPct_SF sunssf
    59 PFWInj.PF uint16 PF_SF rw 0.01..1; 60 PFWInj.Ext enum16 rw 0..1
    61 PFWInjRvrt.PF uint16 PF_SF rw 0.01..1; 62 PFWInjRvrt.Ext enum16 rw 0..1
    63 PFWAbs.PF uint16 PF_SF rw 0.01..1; 64 PFWAbs.Ext enum16 rw 0..1
    65 PFWAbsRvrt.PF uint16 PF_SF rw 0.01..1; 66 PFWAbsRvrt.Ext enum16 rw 0..1
    """),
)

M705 = Table(
    705,
    points("""
    2 Ena enum16 rw 0..1; 3 AdptCrvReq uint16 rw; 4 AdptCrvRslt enum16; 5 NPt uint16; 6 NCrv uint16
    7 RvrtTms uint32 rw; 9 RvrtRem uint32; 11 RvrtCrv uint16 rw
    12 V_SF sunssf; 13 DeptRef_SF sunssf; 14 RspTms_SF sunssf
    """),
    Group(
        "Crv",
        points(
            """
            15 ActPt uint16 rw; 16 DeptRef enum16 rw 0..3; 17 Pri enum16 rw 0..2
            18 VRef uint16 V_SF rw; 19 VRefAuto uint16 V_SF; 20 VRefAutoEna enum16 rw 0..1
            21 VRefAutoTms uint16 rw; 22 RspTms uint32 RspTms_SF rw; 24 ReadOnly enum16
            """,
            15,
        ),
        Group("Pt", points("25 V uint16 V_SF rw; 26 Var int16 DeptRef_SF rw", 25)),
    ),
)

M706 = Table(
    706,
    points("""
    2 Ena enum16 rw 0..1; 3 AdptCrvReq uint16 rw; 4 AdptCrvRslt enum16; 5 NPt uint16; 6 NCrv uint16
    7 RvrtTms uint32 rw; 9 RvrtRem uint32; 11 RvrtCrv uint16 rw
    12 V_SF sunssf; 13 DeptRef_SF sunssf; 14 RspTms_SF sunssf
    """),
    Group(
        "Crv",
        points(
            """
            15 ActPt uint16 rw; 16 DeptRef enum16 rw 0..1; 17 RspTms uint32 RspTms_SF rw
            19 ReadOnly enum16
            """,
            15,
        ),
        Group("Pt", points("20 V uint16 V_SF rw; 21 W int16 DeptRef_SF rw", 20)),
    ),
)

M711 = Table(
    711,
    points("""
    2 Ena enum16 rw 0..1; 3 AdptCtlReq uint16 rw; 4 AdptCtlRslt enum16; 5 NCtl uint16
    6 RvrtTms uint32 rw; 8 RvrtRem uint32; 10 RvrtCtl uint16 rw
    11 Db_SF sunssf; 12 K_SF sunssf; 13 RspTms_SF sunssf
    """),
    Group(
        "Ctl",
        points(
            """
            14 DbOf uint32 Db_SF rw; 16 DbUf uint32 Db_SF rw; 18 KOf uint16 K_SF rw
            19 KUf uint16 K_SF rw; 20 RspTms uint32 RspTms_SF rw; 22 PMin int16 rw -100..100
            23 ReadOnly enum16
            """,
            14,
        ),
    ),
)

M712 = Table(
    712,
    points("""
    2 Ena enum16 rw 0..1; 3 AdptCrvReq uint16 rw; 4 AdptCrvRslt enum16; 5 NPt uint16; 6 NCrv uint16
    7 RvrtTms uint32 rw; 9 RvrtRem uint32; 11 RvrtCrv uint16 rw; 12 W_SF sunssf
    13 DeptRef_SF sunssf
    """),
    Group(
        "Crv",
        points(
            """
            14 ActPt uint16 rw; 15 DeptRef enum16 rw 0..3; 16 Pri enum16 rw 0..1; 17 ReadOnly enum16
            """,
            14,
        ),
        Group("Pt", points("18 W int16 W_SF rw; 19 Var int16 DeptRef_SF rw", 18)),
    ),
)

M713 = Table(
    713,
    points("""
    2 WHRtg uint16 WH_SF; 3 WHAvail uint16 WH_SF; 4 SoC uint16 Pct_SF; 5 SoH uint16 Pct_SF
    6 Sta enum16; 7 WH_SF sunssf; 8 Pct_SF sunssf
    """),
)

M714 = Table(
    714,
    points("""
    2 PrtAlrms bitfield32; 4 NPrt uint16; 5 DCA int16 DCA_SF; 6 DCW int16 DCW_SF
    7 DCWhInj uint64 DCWH_SF; 11 DCWhAbs uint64 DCWH_SF
    15 DCA_SF sunssf; 16 DCV_SF sunssf; 17 DCW_SF sunssf; 18 DCWH_SF sunssf; 19 Tmp_SF sunssf
    """),
    Group(
        "Prt",
        points(
            """
            20 PrtTyp enum16; 21 ID uint16; 22 IDStr string8; 30 DCA int16 DCA_SF
            31 DCV uint16 DCV_SF; 32 DCW int16 DCW_SF; 33 DCWhInj uint64 DCWH_SF
            37 DCWhAbs uint64 DCWH_SF; 41 Tmp int16 Tmp_SF; 42 DCSta enum16; 43 DCAlrm bitfield32
            """,
            20,
        ),
    ),
)

M715 = Table(
    715,
    points("""
    2 LocRemCtl enum16; 3 DERHb uint32; 5 ControllerHb uint32 rw; 7 AlarmReset uint16 rw
    8 OpCtl enum16 rw 0..3
    """),
)
