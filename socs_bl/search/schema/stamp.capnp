# Voltages around a hit, in the wire format of seticore: file and field numbers are its.
@0xb811e7262df2bb01;

using Hit = import "hit.capnp";

# Fine spectra of all antennas, not beamformed.
struct Stamp {
  seticoreVersion @13 :Text;    # what has written it
  sourceName @0 :Text;          # where the antennas pointed
  ra @1 :Float64;               # hours
  dec @2 :Float64;              # degrees
  fch1 @3 :Float64;             # MHz
  foff @4 :Float64;             # MHz
  tstart @5 :Float64;           # Unix seconds
  tsamp @6 :Float64;            # s
  telescopeId @7 :Int32;
  numTimesteps @8 :Int32;
  numChannels @9 :Int32;
  numPolarizations @10 :Int32;
  numAntennas @11 :Int32;
  data @12 :List(Float32);      # [timestep][channel][polarization][antenna][real, imaginary]
  coarseChannel @14 :Int32;
  fftSize @15 :Int32;
  startChannel @16 :Int32;      # column 0 is this fine channel of the coarse channel
  signal @17 :Hit.Signal;
  schan @18 :Int32;             # F-engine channel of the recording's first coarse channel
  obsid @19 :Text;
}
