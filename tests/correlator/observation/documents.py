"""Documents as the executor sends them."""

OBSERVATION = """<?xml version="1.0" encoding="UTF-8"?>
<Observation subarrayId="1" datasetId="L_realfast.57897.87981900463" startTime="57897.87981900463" seq="3"
  configId="L_realfast.57897.87981900463.2" configUrl="http://mccc:8081/configDoc?id=L_realfast.57897.87981900463.2">
  <name>J1041+0610</name>
  <ra>2.8004</ra>
  <dec>0.1077</dec>
  <azoffs>0.0</azoffs>
  <eloffs>0.0</eloffs>
  <startLST>0.5</startLST>
  <intent>ObsProject="realfast"</intent>
  <intent>ScanIntent="CALIBRATE_COMPLEX_GAIN"</intent>
  <scanNo>2</scanNo>
  <subscanNo>1</subscanNo>
  <correlator>widar</correlator>
  <sslo x1="752.0" x2="752.0" x3="752.0" x4="752.0" Receiver="L" IFid="AC" Sideband="1"/>
  <sslo x1="1264.0" x2="1264.0" x3="1264.0" x4="1264.0" Receiver="L" IFid="BD" Sideband="1"/>
</Observation>
"""
ANTENNAS = """<?xml version="1.0" encoding="UTF-8"?>
<AntennaPropertyTable configuration="D" datasetId="L_realfast.57897.87981900463" creation="57897.879">
  <EopSet><eopday><epoch>57897</epoch><tai_utc>37</tai_utc></eopday></EopSet>
  <AntennaProperties name="ea05">
    <widarID>14</widarID><pad>W04</pad><X>-1601173.3</X><Y>-5041985.2</Y><Z>3554876.4</Z><offset>0.0</offset>
  </AntennaProperties>
  <AntennaProperties name="ea02">
    <widarID>2</widarID><pad>E01</pad><X>-1601068.8</X><Y>-5041999.9</Y><Z>3554880.1</Z><offset>0.0</offset>
  </AntennaProperties>
</AntennaPropertyTable>
"""
