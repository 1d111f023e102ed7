//! volboot boots bare machines from block-storage volumes.
