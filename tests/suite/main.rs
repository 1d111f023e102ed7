//! What can be tested without any privilege, from outside.

#![recursion_limit = "256"] // a whole node is a large json!

mod api;
