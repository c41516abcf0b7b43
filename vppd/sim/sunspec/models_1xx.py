"""Model 1 and the older models of a SunSpec battery inverter (103, 120 to 124, 160), typed by hand
from the SunSpec Alliance's model definitions: 120 to 124 from their point lists, 1 and 103 from
smdx_00001.xml and smdx_00103.xml (whose offsets count from behind L), 160 from the offsets printed
by somebody else's transcription.
"""

from vppd.sim.sunspec.table import Group, Table, points

M1 = Table(
    1,
    points("""
    2 Mn string16; 18 Md string16; 34 Opt string8; 42 Vr string8; 50 SN string16
    66 DA uint16 rw; 67 Pad pad
    """),
)

M103 = Table(
    103,
    points("""
    2 A uint16 A_SF; 3 AphA uint16 A_SF; 4 AphB uint16 A_SF; 5 AphC uint16 A_SF; 6 A_SF sunssf
    7 PPVphAB uint16 V_SF; 8 PPVphBC uint16 V_SF; 9 PPVphCA uint16 V_SF
    10 PhVphA uint16 V_SF; 11 PhVphB uint16 V_SF; 12 PhVphC uint16 V_SF; 13 V_SF sunssf
    14 W int16 W_SF; 15 W_SF sunssf; 16 Hz uint16 Hz_SF; 17 Hz_SF sunssf
    18 VA int16 VA_SF; 19 VA_SF sunssf; 20 VAr int16 VAr_SF; 21 VAr_SF sunssf
    22 PF int16 PF_SF; 23 PF_SF sunssf; 24 WH acc32 WH_SF; 26 WH_SF sunssf
    27 DCA uint16 DCA_SF; 28 DCA_SF sunssf; 29 DCV uint16 DCV_SF; 30 DCV_SF sunssf
    31 DCW int16 DCW_SF; 32 DCW_SF sunssf
    33 TmpCab int16 Tmp_SF; 34 TmpSnk int16 Tmp_SF; 35 TmpTrns int16 Tmp_SF
    36 TmpOt int16 Tmp_SF; 37 Tmp_SF sunssf; 38 St enum16; 39 StVnd enum16
    40 Evt1 bitfield32; 42 Evt2 bitfield32; 44 EvtVnd1 bitfield32; 46 EvtVnd2 bitfield32
    48 EvtVnd3 bitfield32; 50 EvtVnd4 bitfield32
    """),
)

M120 = Table(
    120,
    points("""
    2 DERTyp enum16; 3 WRtg uint16 WRtg_SF; 4 WRtg_SF sunssf; 5 VARtg uint16 VARtg_SF
    6 VARtg_SF sunssf; 7 VArRtgQ1 int16 VArRtg_SF; 8 VArRtgQ2 int16 VArRtg_SF
    9 VArRtgQ3 int16 VArRtg_SF; 10 VArRtgQ4 int16 VArRtg_SF; 11 VArRtg_SF sunssf
    12 ARtg uint16 ARtg_SF; 13 ARtg_SF sunssf; 14 PFRtgQ1 int16 PFRtg_SF
    15 PFRtgQ2 int16 PFRtg_SF; 16 PFRtgQ3 int16 PFRtg_SF; 17 PFRtgQ4 int16 PFRtg_SF
    18 PFRtg_SF sunssf; 19 WHRtg uint16 WHRtg_SF; 20 WHRtg_SF sunssf
    21 AhrRtg uint16 AhrRtg_SF; 22 AhrRtg_SF sunssf; 23 MaxChaRte uint16 MaxChaRte_SF
    24 MaxChaRte_SF sunssf; 25 MaxDisChaRte uint16 MaxDisChaRte_SF; 26 MaxDisChaRte_SF sunssf
    27 Pad pad
    """),
)

M121 = Table(
    121,
    points("""
    2 WMax uint16 WMax_SF rw; 3 VRef uint16 VRef_SF rw; 4 VRefOfs int16 VRefOfs_SF rw
    5 VMax uint16 VMinMax_SF rw; 6 VMin uint16 VMinMax_SF rw; 7 VAMax uint16 VAMax_SF rw
    8 VArMaxQ1 int16 VArMax_SF rw; 9 VArMaxQ2 int16 VArMax_SF rw; 10 VArMaxQ3 int16 VArMax_SF rw
    11 VArMaxQ4 int16 VArMax_SF rw; 12 WGra uint16 WGra_SF rw
    13 PFMinQ1 int16 PFMin_SF rw; 14 PFMinQ2 int16 PFMin_SF rw; 15 PFMinQ3 int16 PFMin_SF rw
    16 PFMinQ4 int16 PFMin_SF rw; 17 VArAct enum16 rw 1..2; 18 ClcTotVA enum16 rw 1..2
    19 MaxRmpRte uint16 MaxRmpRte_SF rw; 20 ECPNomHz uint16 ECPNomHz_SF rw; 21 ConnPh enum16 rw 1..3
    22 WMax_SF sunssf; 23 VRef_SF sunssf; 24 VRefOfs_SF sunssf; 25 VMinMax_SF sunssf
    26 VAMax_SF sunssf; 27 VArMax_SF sunssf; 28 WGra_SF sunssf; 29 PFMin_SF sunssf
    30 MaxRmpRte_SF sunssf; 31 ECPNomHz_SF sunssf
    """),
)

M122 = Table(
    122,
    points("""
    2 PVConn bitfield16; 3 StorConn bitfield16; 4 ECPConn bitfield16
    5 ActWh acc64; 9 ActVAh acc64; 13 ActVArhQ1 acc64; 17 ActVArhQ2 acc64
    21 ActVArhQ3 acc64; 25 ActVArhQ4 acc64
    29 VArAval int16 VArAval_SF; 30 VArAval_SF sunssf; 31 WAval uint16 WAval_SF; 32 WAval_SF sunssf
    33 StSetLimMsk bitfield32; 35 StActCtl bitfield32; 37 TmSrc string4; 41 Tms uint32
    43 RtSt bitfield16; 44 Ris uint16 Ris_SF; 45 Ris_SF sunssf
    """),
)

M123 = Table(
    123,
    points("""
    2 Conn_WinTms uint16 rw; 3 Conn_RvrtTms uint16 rw; 4 Conn enum16 rw 0..1
    5 WMaxLimPct uint16 WMaxLimPct_SF rw 0..100
    6 WMaxLimPct_WinTms uint16 rw; 7 WMaxLimPct_RvrtTms uint16 rw; 8 WMaxLimPct_RmpTms uint16 rw
    9 WMaxLim_Ena enum16 rw 0..1; 10 OutPFSet int16 OutPFSet_SF rw -1..1
    11 OutPFSet_WinTms uint16 rw; 12 OutPFSet_RvrtTms uint16 rw; 13 OutPFSet_RmpTms uint16 rw
    14 OutPFSet_Ena enum16 rw 0..1; 15 VArWMaxPct int16 VArPct_SF rw -100..100
    16 VArMaxPct int16 VArPct_SF rw -100..100; 17 VArAvalPct int16 VArPct_SF rw -100..100
    18 VArPct_WinTms uint16 rw; 19 VArPct_RvrtTms uint16 rw; 20 VArPct_RmpTms uint16 rw
    21 VArPct_Mod enum16 rw 0..3; 22 VArPct_Ena enum16 rw 0..1
    23 WMaxLimPct_SF sunssf; 24 OutPFSet_SF sunssf; 25 VArPct_SF sunssf
    """),
)

M124 = Table(
    124,
    points("""
    2 WChaMax uint16 WChaMax_SF rw; 3 WChaGra uint16 WChaDisChaGra_SF rw 0..100
    4 WDisChaGra uint16 WChaDisChaGra_SF rw 0..100; 5 StorCtl_Mod bitfield16 rw 0..3
    6 VAChaMax uint16 VAChaMax_SF rw; 7 MinRsvPct uint16 MinRsvPct_SF rw 0..100
    8 ChaState uint16 ChaState_SF; 9 StorAval uint16 StorAval_SF; 10 InBatV uint16 InBatV_SF
    11 ChaSt enum16; 12 OutWRte int16 InOutWRte_SF rw -100..100
    13 InWRte int16 InOutWRte_SF rw -100..100; 14 InOutWRte_WinTms uint16 rw
    15 InOutWRte_RvrtTms uint16 rw; 16 InOutWRte_RmpTms uint16 rw; 17 ChaGriSet enum16 rw 0..1
    18 WChaMax_SF sunssf; 19 WChaDisChaGra_SF sunssf; 20 VAChaMax_SF sunssf
    21 MinRsvPct_SF sunssf; 22 ChaState_SF sunssf; 23 StorAval_SF sunssf; 24 InBatV_SF sunssf
    25 InOutWRte_SF sunssf
    """),
)

M160 = Table(
    160,
    points("""
    2 DCA_SF sunssf; 3 DCV_SF sunssf; 4 DCW_SF sunssf; 5 DCWH_SF sunssf; 6 Evt bitfield32
    8 N count; 9 TmsPer uint16
    """),
    Group(
        "module",
        points(
            """
            10 ID uint16; 11 IDStr string8; 19 DCA uint16 DCA_SF; 20 DCV uint16 DCV_SF
            21 DCW uint16 DCW_SF; 22 DCWH acc32 DCWH_SF; 24 Tms uint32; 26 Tmp int16
            27 DCSt enum16; 28 DCEvt bitfield32
            """,
            10,
        ),
    ),
)
