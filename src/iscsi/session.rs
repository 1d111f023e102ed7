//! [`IscsiSession`]: the driver of a session over one TCP connection, with a deadline for each step.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Error;
use super::initiator::Initiator;
use super::login::{Isid, LoginParameters};
use super::scsi::{
    CommandFault, LogicalUnit, ScsiCommand, parse_capacity, parse_inquiry, parse_mode, take_data,
};

/// The most bytes of one READ: every target takes that many.
const MAX_READ: u32 = 64 * 1024;
/// The most attempts of a command that meets a unit attention or a busy unit.
const ATTEMPTS: usize = 5;
/// The pause before a busy unit is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// A session with a target. [`IscsiSession::log_out`] ends it; a dropped session ends with its connection.
#[derive(Debug)]
pub struct IscsiSession {
    stream: TcpStream,
    initiator: Initiator,
    deadline: Instant,
    buffer: Box<[u8]>,
}

impl IscsiSession {
    /// Logs in over a connection to a portal.
    pub async fn log_in(
        stream: TcpStream,
        parameters: LoginParameters,
        isid: Isid,
        deadline: Instant,
    ) -> Result<Self, Error> {
        // The initiator sends small messages and waits for each answer.
        stream.set_nodelay(true).map_err(Error::Io)?;
        let initiator = Initiator::new(parameters, isid);
        let mut session = Self { stream, initiator, deadline, buffer: vec![0; 32 * 1024].into() };
        while !session.initiator.is_logged_in() {
            session.exchange().await?;
        }
        Ok(session)
    }

    /// Sets the deadline of the commands that follow.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Whether the target authenticated the initiator by CHAP.
    pub fn used_chap(&self) -> bool {
        self.initiator.used_chap()
    }

    /// Examines a logical unit.
    pub async fn examine(&mut self, lun: [u8; 8]) -> Result<LogicalUnit, Error> {
        let (device_type, model) = parse_inquiry(&self.execute(lun, ScsiCommand::Inquiry).await?)?;
        self.execute(lun, ScsiCommand::TestUnitReady).await?;
        let capacity = match parse_capacity(&self.execute(lun, ScsiCommand::ReadCapacity10).await?)? {
            None => parse_capacity(&self.execute(lun, ScsiCommand::ReadCapacity16).await?)?,
            capacity => capacity,
        };
        let (blocks, block_size) = capacity.ok_or(Error::Command(CommandFault::ShortData))?;
        let write_protected = match self.execute(lun, ScsiCommand::ModeSense).await {
            Ok(data) => parse_mode(&data),
            Err(Error::Command(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(LogicalUnit { device_type, model, blocks, block_size, write_protected })
    }

    /// Reads whole blocks, with as many commands as needed.
    pub async fn read(
        &mut self,
        lun: [u8; 8],
        block_size: u32,
        block: u64,
        count: u32,
    ) -> Result<Vec<u8>, Error> {
        let step = (MAX_READ / block_size).max(1);
        let mut data = Vec::new();
        let mut done = 0;
        while done < count {
            let part = step.min(count - done) as u16;
            let command = ScsiCommand::Read { block: block + u64::from(done), count: part, block_size };
            let blocks = self.execute(lun, command).await?;
            if blocks.len() != command.data_length() as usize {
                return Err(Error::Command(CommandFault::ShortData));
            }
            data.extend_from_slice(&blocks);
            done += u32::from(part);
        }
        Ok(data)
    }

    /// Logs out, and waits at most `limit` for the target's answer.
    pub async fn log_out(mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
        self.initiator.log_out();
        let exchange = async { while !self.initiator.is_logged_out() && self.exchange().await.is_ok() {} };
        let _ = timeout(limit, exchange).await;
    }

    /// Executes a command, again if the unit reports a unit attention.
    async fn execute(&mut self, lun: [u8; 8], command: ScsiCommand) -> Result<Vec<u8>, Error> {
        let mut attempt = 1;
        loop {
            self.initiator.start(lun, &command)?;
            let completion = loop {
                match self.initiator.take_completion() {
                    Some(completion) => break completion,
                    None => self.exchange().await?,
                }
            };
            match take_data(completion) {
                Err(fault) if fault.is_transient() && attempt < ATTEMPTS => {
                    attempt += 1;
                    if fault == CommandFault::Busy {
                        tokio::time::sleep(BUSY_PAUSE).await;
                    }
                }
                result => return result.map_err(Error::Command),
            }
        }
    }

    /// Sends what the initiator has to send, and takes what the target sends next.
    async fn exchange(&mut self) -> Result<(), Error> {
        let exchange = async {
            self.stream.write_all(&self.initiator.take_output()).await.map_err(Error::Io)?;
            match self.stream.read(&mut self.buffer).await.map_err(Error::Io)? {
                0 => Err(Error::Closed),
                length => self.initiator.receive(&self.buffer[..length]),
            }
        };
        timeout_at(self.deadline, exchange).await.unwrap_or(Err(Error::TimedOut))
    }
}
