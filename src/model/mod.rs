//! The nouns of the house and their rules: what a MAC address, an iSCSI name, a node or a volume target *is*.
//!
//! Floor 0: nothing here does I/O, reads a clock or knows another module. Every value that comes from outside
//! (firmware, iPXE, an API client, Cinder) is parsed into one of these types at the door where it enters; behind
//! the door there are no strings that mean something.
//!
//! Fields and meanings of [`Node`], [`Port`], [`VolumeConnector`] and [`VolumeTarget`] are Ironic's, because its
//! clients read and write them.

mod answer;
mod asker;
mod attachment;
mod chassis;
mod connection;
mod iqn;
mod log_filter;
mod mac;
mod node;
mod port;
mod port_group;
mod properties;
mod san;
mod san_table;
mod states;
mod volume;

pub use answer::{Answer, BootPlan, Platform, Volume};
pub use asker::{Asker, MAX_MACS, Seen};
pub use attachment::{Attachment, AttachmentState, Connector};
pub use chassis::Chassis;
pub use connection::{Chap, Connection, PropertyError};
pub use iqn::{Iqn, IqnError};
pub use log_filter::{LogFilter, LogFilterError};
pub use mac::{Mac, MacError};
pub use node::{Capabilities, Node, RESERVED_NAMES, StorageInterface};
pub use port::Port;
pub use port_group::PortGroup;
pub use properties::Properties;
pub use san::{LoaderPath, LoaderPathError, Lun, LunError, Portal, PortalError, SanUri, SanUriError};
pub use san_table::{Hook, SanTable};
pub use states::{PowerState, ProvisionState};
pub use volume::{VolumeConnector, VolumeTarget};
