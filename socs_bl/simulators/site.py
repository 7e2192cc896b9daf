"""Where the simulated telescope stands: its reference point and its antennas. The default is MeerKAT.

Antenna offsets are east, north and up of the reference point in metres, as in katpoint's antenna descriptions (third and
later fields). Source: SARAO, nominal positions of the 64 MeerKAT antennas.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from socs_bl.core.config import Config

_MEERKAT = """
m000 -8.264 -207.290 8.597      m001 1.121 -171.762 8.471       m002 -32.113 -224.236 8.645
m003 -66.518 -202.276 8.285     m004 -123.624 -252.946 8.513    m005 -102.088 -283.120 8.875
m006 -18.232 -295.428 9.188     m007 -89.592 -402.732 9.769     m008 -93.527 -535.026 10.445
m009 32.357 -371.056 10.140     m010 88.095 -511.872 11.186     m011 84.012 -352.078 10.151
m012 140.019 -368.267 10.449    m013 236.792 -393.460 11.124    m014 280.669 -285.792 10.547
m015 210.644 -219.142 9.738     m016 288.159 -185.873 9.795     m017 199.624 -112.263 8.955
m018 105.727 -245.870 9.529     m019 170.787 -285.223 10.071    m020 97.016 -299.638 9.877
m021 -295.966 -327.241 8.117    m022 -373.002 0.544 5.649       m023 -322.306 -142.185 6.825
m024 -351.046 150.088 4.845     m025 -181.978 225.617 5.068     m026 -99.004 17.045 6.811
m027 40.475 -23.112 7.694       m028 -51.179 -87.170 7.636      m029 -88.762 -124.111 7.700
m030 171.281 113.949 7.278      m031 246.567 93.756 7.469       m032 461.275 175.505 7.367
m033 580.678 863.959 3.600      m034 357.811 -28.308 8.972      m035 386.152 -180.894 10.290
m036 388.257 -290.759 10.812    m037 380.286 -459.309 12.172    m038 213.308 -569.080 11.946
m039 253.748 -592.147 12.441    m040 -26.858 -712.219 11.833    m041 -287.545 -661.678 9.949
m042 -361.714 -460.318 8.497    m043 -629.853 -128.326 5.264    m044 -896.164 600.497 -0.640
m045 -1832.860 266.750 0.108    m046 -1467.341 1751.923 -7.078  m047 -578.296 -517.297 7.615
m048 -2805.653 2686.863 -9.755  m049 -3605.957 436.462 2.696    m050 -2052.336 -843.715 5.338
m051 -850.255 -769.359 7.614    m052 -593.192 -1148.652 10.550  m053 9.365 -1304.462 15.032
m054 871.980 -499.812 13.364    m055 1201.780 96.492 10.023     m056 1598.403 466.668 6.990
m057 294.645 3259.915 -10.637   m058 2805.764 2686.873 -3.660   m059 3686.427 758.895 11.822
m060 3419.683 -1840.478 23.697  m061 -16.409 -2323.779 21.304   m062 -1440.632 -2503.773 21.683
m063 -3419.585 -1840.480 16.383
"""

Offset = tuple[float, float, float]


def _table(text: str) -> dict[str, Offset]:
    """Names and offsets, four words each."""
    words = text.split()
    return {
        name: (float(east), float(north), float(up))
        for name, east, north, up in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True)
    }


class Site(Config):
    """A telescope's place.

    Attributes
    ----------
    telescope : str
        First part of an observation's id.
    latitude_deg, longitude_deg : float
        Geodetic, WGS84, of the reference point; north and east positive.
    altitude_m : float
    diameter_m : float
        Of an antenna.
    antennas : dict of str to tuple
        Name to offset east, north, up of the reference point, metres.
    """

    telescope: str = Field(default="MeerKAT", pattern="^[A-Za-z0-9_]{1,20}$")
    latitude_deg: Annotated[float, Field(ge=-90, le=90)] = -(30 + 42 / 60 + 39.8 / 3600)
    longitude_deg: Annotated[float, Field(ge=-180, le=180)] = 21 + 26 / 60 + 38.0 / 3600
    altitude_m: float = 1086.6
    diameter_m: float = Field(default=13.5, gt=0)
    antennas: dict[str, Offset] = Field(default_factory=lambda: _table(_MEERKAT))
