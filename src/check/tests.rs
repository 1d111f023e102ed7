//! Rulings on volumes: each row is a case of the table.
