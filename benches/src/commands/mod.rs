//! The commands of the measuring program.

pub(crate) mod bound;
pub(crate) mod compare;
pub(crate) mod publish;
pub(crate) mod table;
