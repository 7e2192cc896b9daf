# Hits of a search, in the wire format of seticore: file and field numbers are its.
@0xb0d6956dc23c3717;

# A drifting narrow-band signal.
struct Signal {
  frequency @0 :Float64;        # MHz, at the start
  index @1 :Int32;              # fine channel within the coarse channel, at the start
  driftSteps @2 :Int32;         # channels crossed in as many spectra as the next power of two
  driftRate @3 :Float64;        # Hz/s
  snr @4 :Float32;              # (power - median) / deviation
  coarseChannel @5 :Int32;
  beam @6 :Int32;               # -1: incoherent
  numTimesteps @7 :Int32;       # spectra there really are
  power @8 :Float32;            # summed along the line
  incoherentPower @9 :Float32;  # summed along the same line in the incoherent beam
}

# The power around a signal.
struct Filterbank {
  sourceName @0 :Text;
  fch1 @1 :Float64;             # MHz
  foff @2 :Float64;             # MHz
  tstart @3 :Float64;           # MJD
  tsamp @4 :Float64;            # s
  ra @5 :Float64;               # hours
  dec @6 :Float64;              # degrees
  telescopeId @7 :Int32;
  numTimesteps @8 :Int32;
  numChannels @9 :Int32;
  data @10 :List(Float32);      # [timestep][channel]
  coarseChannel @11 :Int32;
  startChannel @12 :Int32;      # column 0 is this fine channel of the coarse channel
  beam @13 :Int32;
}

# Without a filterbank, only the signal was kept.
struct Hit {
  signal @0 :Signal;
  filterbank @1 :Filterbank;
}
