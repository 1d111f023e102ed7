//! What runs without any privilege: the binary as a whole, seen from outside, and the shape of the house.

mod daemon;
mod faults;
mod layers;
mod life;
