# Types and field numbers as they are in seticore's hit.capnp and stamp.capnp, under other names: a reader elsewhere.
@0xc1f0a2b3d4e5f607;

struct Signal {
  a @0 :Float64; b @1 :Int32; c @2 :Int32; d @3 :Float64; e @4 :Float32; f @5 :Int32; g @6 :Int32; h @7 :Int32;
  i @8 :Float32; j @9 :Float32;
}

struct Filterbank {
  a @0 :Text; b @1 :Float64; c @2 :Float64; d @3 :Float64; e @4 :Float64; f @5 :Float64; g @6 :Float64; h @7 :Int32;
  i @8 :Int32; j @9 :Int32; k @10 :List(Float32); l @11 :Int32; m @12 :Int32; n @13 :Int32;
}

struct Hit {
  signal @0 :Signal;
  filterbank @1 :Filterbank;
}

struct Stamp {
  a @0 :Text; b @1 :Float64; c @2 :Float64; d @3 :Float64; e @4 :Float64; f @5 :Float64; g @6 :Float64; h @7 :Int32;
  i @8 :Int32; j @9 :Int32; k @10 :Int32; l @11 :Int32; m @12 :List(Float32); n @13 :Text; o @14 :Int32; p @15 :Int32;
  q @16 :Int32; r @17 :Signal; s @18 :Int32; t @19 :Text;
}
