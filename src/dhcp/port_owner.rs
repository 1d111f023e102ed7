//! [`find_port_owner`]: the process that holds a UDP port, from procfs.
//!
//! Without privileges, procfs shows the user of each socket, but not the process of another user.

use std::fmt;
use std::fs;
use std::path::Path;

/// Most file descriptors that are looked at.
const MAX_DESCRIPTORS: usize = 100_000;

/// The owner of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// A process.
    Process {
        /// Its name.
        name: String,
        /// Its id.
        pid: u32,
    },
    /// A process of this user.
    User(String),
    /// No socket was found.
    Unknown,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { name, pid } => write!(f, "{name} (process {pid})"),
            Self::User(name) => write!(f, "a process of user {name}"),
            Self::Unknown => f.write_str("a process that this user cannot see"),
        }
    }
}

/// Finds the owner of a UDP port over IPv4. Reads many files: call it rarely, and not on an async thread.
pub fn find_port_owner(port: u16) -> PortOwner {
    find_below(Path::new("/proc"), Path::new("/etc/passwd"), port)
}

fn find_below(procfs: &Path, passwd: &Path, port: u16) -> PortOwner {
    let sockets = fs::read_to_string(procfs.join("self/net/udp")).unwrap_or_default();
    let Some((uid, inode)) = sockets.lines().find_map(|line| parse_socket(line, port)) else {
        return PortOwner::Unknown;
    };
    find_process(procfs, inode).unwrap_or_else(|| PortOwner::User(find_user(passwd, uid)))
}

/// User and inode of a line of `/proc/net/udp`, if its local port is this one.
fn parse_socket(line: &str, port: u16) -> Option<(u32, u64)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.split_once(':')?;
    let is_port = u16::from_str_radix(local_port, 16).ok()? == port;
    is_port.then_some((fields.get(7)?.parse().ok()?, fields.get(9)?.parse().ok()?))
}

/// The process with a descriptor of the socket.
fn find_process(procfs: &Path, inode: u64) -> Option<PortOwner> {
    let target = format!("socket:[{inode}]");
    let pids = fs::read_dir(procfs).ok()?.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    });
    let descriptors = pids.flat_map(|(pid, path)| {
        let links = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        links.map(move |link| (pid, link.path()))
    });
    let mut descriptors = descriptors.take(MAX_DESCRIPTORS);
    let holds = |link: &Path| fs::read_link(link).is_ok_and(|held| held.as_os_str() == target.as_str());
    let (pid, _) = descriptors.find(|(_, link)| holds(link))?;
    let name = fs::read_to_string(procfs.join(format!("{pid}/comm"))).unwrap_or_default();
    Some(PortOwner::Process { name: name.trim().to_owned(), pid })
}

/// The name of a user, or the id if the file has none.
fn find_user(passwd: &Path, uid: u32) -> String {
    let users = fs::read_to_string(passwd).unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn this_process_holds_its_port() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        let owner = find_port_owner(port);
        let PortOwner::Process { pid, .. } = owner else { panic!("{owner}") };
        assert_eq!(pid, std::process::id());
        drop(socket);
        assert_eq!(find_port_owner(port), PortOwner::Unknown);
    }

    #[test]
    fn a_hidden_process_is_known_by_its_user() {
        let root = tempfile::tempdir().expect("a directory");
        let (procfs, passwd) = (root.path(), root.path().join("passwd"));
        fs::create_dir_all(procfs.join("self/net")).expect("a directory");
        let sockets = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n \
                       12: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000   106        0 4711 2 0 0\n";
        fs::write(procfs.join("self/net/udp"), sockets).expect("a file");
        fs::write(&passwd, "root:x:0:0::/root:/bin/sh\ndnsmasq:x:106:65534::/:/bin/false\n").expect("a file");
        assert_eq!(find_below(procfs, &passwd, 67), PortOwner::User("dnsmasq".into()));
        assert_eq!(find_below(procfs, Path::new("/nonexistent"), 67), PortOwner::User("106".into()));
        assert_eq!(find_below(procfs, &passwd, 68), PortOwner::Unknown);
        fs::create_dir_all(procfs.join("812/fd")).expect("a directory");
        symlink("socket:[4711]", procfs.join("812/fd/4")).expect("a link");
        fs::write(procfs.join("812/comm"), "dnsmasq\n").expect("a file");
        let owner = find_below(procfs, &passwd, 67);
        assert_eq!(owner.to_string(), "dnsmasq (process 812)");
    }
}
