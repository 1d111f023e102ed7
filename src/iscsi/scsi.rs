//! SCSI commands that read (SPC-4, SBC-3): descriptor blocks, data, errors.

use std::fmt;

use super::Error;

/// Bytes of an INQUIRY response without vendor-specific parts.
const INQUIRY_LENGTH: u8 = 36;
/// Bytes of a READ CAPACITY (16) response.
const CAPACITY_LENGTH: u32 = 32;
/// The header of a MODE SENSE (6) response.
const MODE_HEADER: u8 = 4;
/// All mode pages: targets that lack single pages have this one.
const ALL_PAGES: u8 = 0x3f;
/// The block sizes of disks and CD-ROMs.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=65536;

/// A SCSI command. None changes anything at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScsiCommand {
    /// TEST UNIT READY; collects a pending unit attention.
    TestUnitReady,
    /// INQUIRY: kind, vendor and product of the unit.
    Inquiry,
    /// READ CAPACITY (10).
    ReadCapacity10,
    /// READ CAPACITY (16), for units of 2³² blocks and more.
    ReadCapacity16,
    /// MODE SENSE (6): the write protection.
    ModeSense,
    /// READ (10), or READ (16) above 2³² blocks.
    Read {
        /// The first block.
        block: u64,
        /// The number of blocks.
        count: u16,
        /// The unit's block size.
        block_size: u32,
    },
}

impl ScsiCommand {
    /// The most bytes that the target may send.
    pub(super) fn data_length(&self) -> u32 {
        match self {
            Self::TestUnitReady => 0,
            Self::Inquiry => INQUIRY_LENGTH.into(),
            Self::ReadCapacity10 => 8,
            Self::ReadCapacity16 => CAPACITY_LENGTH,
            Self::ModeSense => MODE_HEADER.into(),
            Self::Read { count, block_size, .. } => u32::from(*count).saturating_mul(*block_size),
        }
    }

    /// The command descriptor block.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        match self {
            Self::TestUnitReady => {}
            Self::Inquiry => (bytes[0], bytes[4]) = (0x12, INQUIRY_LENGTH),
            Self::ReadCapacity10 => bytes[0] = 0x25,
            Self::ReadCapacity16 => {
                (bytes[0], bytes[1]) = (0x9e, 0x10);
                bytes[10..14].copy_from_slice(&CAPACITY_LENGTH.to_be_bytes());
            }
            Self::ModeSense => (bytes[0], bytes[2], bytes[4]) = (0x1a, ALL_PAGES, MODE_HEADER),
            Self::Read { block, count, .. } => {
                if let Ok(block) = u32::try_from(block) {
                    bytes[0] = 0x28;
                    bytes[2..6].copy_from_slice(&block.to_be_bytes());
                    bytes[7..9].copy_from_slice(&count.to_be_bytes());
                } else {
                    bytes[0] = 0x88;
                    bytes[2..10].copy_from_slice(&block.to_be_bytes());
                    bytes[10..14].copy_from_slice(&u32::from(count).to_be_bytes());
                }
            }
        }
        bytes
    }
}

/// A logical unit, as its target describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalUnit {
    /// The peripheral device type: 0 for disks, 5 for CD-ROMs (SPC-4 §6.6.2).
    pub device_type: u8,
    /// Vendor and product.
    pub model: String,
    /// The number of blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Whether the unit refuses writes; `None` if the target does not tell.
    pub write_protected: Option<bool>,
}

/// Device type, and vendor with product, of an INQUIRY response.
pub(super) fn parse_inquiry(data: &[u8]) -> Result<(u8, String), Error> {
    let kind = *data.first().ok_or(Error::Command(CommandFault::ShortData))?;
    // A peripheral qualifier other than 0: no device is connected under this LUN (SPC-4 §6.6.2).
    if kind >> 5 != 0 {
        return Err(Error::Command(CommandFault::NoLogicalUnit));
    }
    let text = |range: std::ops::Range<usize>| {
        let bytes = data.get(range).unwrap_or_default();
        let printable =
            bytes.iter().map(|byte| if matches!(byte, 0x20..=0x7e) { char::from(*byte) } else { ' ' });
        printable.collect::<String>().trim().to_owned()
    };
    Ok((kind & 0x1f, format!("{} {}", text(8..16), text(16..32)).trim().to_owned()))
}

/// Number of blocks and block size of a READ CAPACITY response. `None`: the unit is too large for the short form.
pub(super) fn parse_capacity(data: &[u8]) -> Result<Option<(u64, u32)>, Error> {
    let short = || Error::Command(CommandFault::ShortData);
    let (last, block_size) = if data.len() >= 12 {
        let (last, rest) = data.split_first_chunk().ok_or_else(short)?;
        (u64::from_be_bytes(*last), rest.first_chunk().ok_or_else(short)?)
    } else {
        let (last, rest) = data.split_first_chunk().ok_or_else(short)?;
        match u32::from_be_bytes(*last) {
            u32::MAX => return Ok(None),
            last => (last.into(), rest.first_chunk().ok_or_else(short)?),
        }
    };
    let block_size = u32::from_be_bytes(*block_size);
    if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) {
        return Err(Error::Command(CommandFault::BlockSize(block_size)));
    }
    Ok(Some((last.saturating_add(1), block_size)))
}

/// The write protection of a MODE SENSE (6) response (SBC-3 §6.4.1).
pub(super) fn parse_mode(data: &[u8]) -> Option<bool> {
    data.get(2).map(|parameter| parameter & 0x80 != 0)
}

/// The reason of a CHECK CONDITION (SPC-4 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenseData {
    /// The sense key.
    pub key: u8,
    /// Additional sense code and its qualifier.
    pub code: (u8, u8),
}

impl SenseData {
    /// Reads fixed and descriptor format.
    fn parse(bytes: &[u8]) -> Self {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        match byte(0) & 0x7f {
            0x72 | 0x73 => Self { key: byte(1) & 0x0f, code: (byte(2), byte(3)) },
            _ => Self { key: byte(2) & 0x0f, code: (byte(12), byte(13)) },
        }
    }
}

/// Why a command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandFault {
    /// The target has no unit under this LUN.
    NoLogicalUnit,
    /// Another initiator has reserved the unit.
    ReservationConflict,
    /// The unit is busy, also after retries.
    Busy,
    /// CHECK CONDITION.
    Check(SenseData),
    /// Another SCSI status.
    Status(u8),
    /// The target sent less data than the command requires.
    ShortData,
    /// A block size that no disk has.
    BlockSize(u32),
}

impl CommandFault {
    /// Whether the same command may succeed at once: a unit attention is reported one time (SPC-4 §5.14).
    pub(super) fn is_transient(self) -> bool {
        matches!(self, Self::Busy | Self::Check(SenseData { key: 6, .. }))
    }
}

impl fmt::Display for CommandFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLogicalUnit => f.write_str("the target has no such LUN"),
            Self::ReservationConflict => {
                f.write_str("RESERVATION CONFLICT: another initiator has reserved the volume")
            }
            Self::Busy => f.write_str("the volume is busy"),
            Self::Check(SenseData { key, code: (code, qualifier) }) => {
                let meaning = match key {
                    2 => "not ready",
                    3 => "medium error",
                    4 => "hardware error",
                    5 => "illegal request",
                    6 => "unit attention",
                    7 => "access denied",
                    _ => "check condition",
                };
                write!(f, "{meaning} (SCSI sense {key:x}/{code:02x}/{qualifier:02x})")
            }
            Self::Status(status) => write!(f, "SCSI status {status:02x}"),
            Self::ShortData => f.write_str("the target sent too little data"),
            Self::BlockSize(size) => write!(f, "the target reports blocks of {size} bytes"),
        }
    }
}

/// The end of a SCSI command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Completion {
    /// The SCSI status.
    pub(super) status: u8,
    /// The sense data, without its length.
    pub(super) sense: Vec<u8>,
    /// The data that the target sent.
    pub(super) data: Vec<u8>,
}

/// The data of a completed command, or why it failed.
pub(super) fn take_data(completion: Completion) -> Result<Vec<u8>, CommandFault> {
    match completion.status {
        0x00 => Ok(completion.data),
        0x02 => match SenseData::parse(&completion.sense) {
            // LOGICAL UNIT NOT SUPPORTED.
            SenseData { key: 5, code: (0x25, _) } => Err(CommandFault::NoLogicalUnit),
            sense => Err(CommandFault::Check(sense)),
        },
        0x08 | 0x28 => Err(CommandFault::Busy),
        0x18 => Err(CommandFault::ReservationConflict),
        status => Err(CommandFault::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_read_in_both_forms() {
        let short = [0, 0, 0x1f, 0xff, 0, 0, 2, 0];
        assert_eq!(parse_capacity(&short).expect("a capacity"), Some((8192, 512)));
        assert_eq!(parse_capacity(&[0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]).expect("a capacity"), None);
        let mut long = [0; 32];
        (long[3], long[10]) = (1, 0x10);
        assert_eq!(parse_capacity(&long).expect("a capacity"), Some(((1 << 32) + 1, 4096)));
        for data in
            [&[][..], &[0; 7], &[0; 8], &[0; 11], &[0, 0, 0, 1, 0, 0, 2, 8], &[0, 0, 0, 1, 0, 2, 0, 0]]
        {
            assert!(parse_capacity(data).is_err(), "{data:?}");
        }
    }

    #[test]
    fn commands_have_the_bytes_of_the_standards() {
        let read = |block| ScsiCommand::Read { block, count: 3, block_size: 512 };
        assert_eq!(read(0x0102_0304).to_bytes()[..10], [0x28, 0, 1, 2, 3, 4, 0, 0, 3, 0]);
        assert_eq!(read(1 << 32).to_bytes(), [0x88, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0]);
        assert_eq!(read(0).data_length(), 1536);
        assert_eq!(ScsiCommand::ReadCapacity16.to_bytes()[13], 32);
    }

    #[test]
    fn faults_tell_a_missing_lun_from_a_reservation() {
        let check = |sense: &[u8]| Completion { status: 2, sense: sense.to_vec(), data: Vec::new() };
        let fixed = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0];
        assert_eq!(take_data(check(&fixed)), Err(CommandFault::NoLogicalUnit));
        assert_eq!(take_data(check(&[0x72, 5, 0x25, 0])), Err(CommandFault::NoLogicalUnit));
        assert!(take_data(check(&[0x70, 0, 6])).expect_err("a fault").is_transient());
        let conflict = Completion { status: 0x18, ..check(&[]) };
        assert_eq!(take_data(conflict), Err(CommandFault::ReservationConflict));
        assert!(matches!(parse_inquiry(&[0x7f]), Err(Error::Command(CommandFault::NoLogicalUnit))));
    }
}
