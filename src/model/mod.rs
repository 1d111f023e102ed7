//! The vocabulary of the crate and its rules: MAC addresses, iSCSI names, nodes, ports, volume targets, attachments.
//!
//! Floor 0: nothing here does I/O, reads a clock or knows another module. Every value from outside (firmware, iPXE,
//! an API client, Cinder) is parsed into one of these types where it enters. After that point, the code uses these
//! types instead of strings.
//!
//! Fields and meanings of [`Node`], [`Port`], [`VolumeConnector`] and [`VolumeTarget`] are Ironic's, because Ironic's
//! clients read and write them.

mod allocation;
mod attachment;
mod boot_answer;
mod boot_once;
mod boot_request;
mod boot_step;
mod boot_window;
mod chain_url;
mod chap;
mod chassis;
mod conductor;
mod connection;
mod connection_source;
mod dhcp;
mod driver;
mod enabled_hardware;
mod excerpt;
mod fallback;
mod fallback_state;
mod instance;
mod ipxe_feature;
mod iqn;
mod log_filter;
mod lun;
mod mac;
mod neighbour_check;
mod node;
mod platform;
mod port;
mod port_group;
mod portal;
mod power;
mod promotion;
mod properties;
mod property_error;
mod release;
mod san;
mod san_table;
mod states;
mod trait_name;
mod transfer_outcome;
mod volume;

pub use allocation::{Allocation, AllocationError, AllocationState, NodeSelection, Suitability};
pub use attachment::{
    Attachment, AttachmentState, BootAttempt, ConnectorProperties, InstanceServer, Ownership,
};
pub use boot_answer::{BootAnswer, BootOutcome, BootPlan, BootVolume};
pub use boot_once::{BootOnce, OncePhase, OnceSource};
pub use boot_request::{BootRequest, MAX_MACS};
pub use boot_step::BootStep;
pub use boot_window::{BootWindow, BootWindowPolicy, BootWindowRefusal, BootWindowStage};
pub use chain_url::{ChainUrl, ChainUrlError};
pub use chap::Chap;
pub use chassis::Chassis;
pub use conductor::{Conductor, ConductorGroup, ConductorGroupError};
pub use connection::Connection;
pub use connection_source::{ConnectionSource, SourceKind};
pub use dhcp::{DhcpAnswer, DhcpStep, name_architecture};
pub use driver::{DRIVERS, Driver, INTERFACE_TYPES, InterfaceError};
pub use enabled_hardware::EnabledHardware;
pub use excerpt::{MAX_EXCERPT, cut_to_excerpt, excerpt, is_hidden};
pub use fallback::{Fallback, FallbackError, FallbackSecret, FallbackSource};
pub use fallback_state::{FallbackInForce, FallbackNotice, FallbackState, WatchedBoot, WatchedStage};
pub use instance::{Announcement, InstanceName, InstanceNameError};
pub use ipxe_feature::IpxeFeature;
pub use iqn::{Iqn, IqnError, TargetName};
pub use log_filter::{LogFilter, LogFilterError};
pub use lun::{AddressingMode, AddressingModeError, Lun, LunError};
pub use mac::{Mac, MacError};
pub use neighbour_check::{CardSighting, NeighbourCheck, RequesterFault};
pub use node::{Capabilities, Node, NodeNameError, RESERVED_NAMES, StorageInterface, is_logical_name};
pub use platform::Platform;
pub use port::Port;
pub use port_group::PortGroup;
pub use portal::{Portal, PortalError};
pub use power::NodePower;
pub use promotion::{Promotion, PromotionError};
pub use properties::Properties;
pub use property_error::PropertyError;
pub use release::Released;
pub use san::{LoaderPath, LoaderPathError, SanUri, SanUriError};
pub use san_table::{Hook, SanTable};
pub use states::{PowerState, ProvisionState};
pub use trait_name::{InstanceTraitsError, MAX_TRAITS, TraitName, TraitNameError};
pub use transfer_outcome::TransferOutcome;
pub use volume::{VolumeConnector, VolumeTarget};
