//! [`IpxeFeature`]: a feature that iPXE needs to boot with volboot, and that the iPXE of a network card may lack.
//!
//! iPXE lists its features in DHCP option 175. The DHCP server names a *complete* iPXE for one that lacks a feature, in
//! a folder that says which. The TFTP server thereby learns what the machine lacks, and serves the binary once: if the
//! machine comes back with the same request, the binary lacks the feature as well.

/// A feature of iPXE that a boot from a volume needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpxeFeature {
    /// `http:` URLs, for boot scripts. The ROM of VirtualBox lacks it.
    Http,
    /// `iscsi:` URLs, for volumes.
    Iscsi,
}

impl IpxeFeature {
    /// All features, in the order in which a machine needs them.
    pub const ALL: [Self; 2] = [Self::Http, Self::Iscsi];

    /// The feature's code within DHCP option 175 (`DHCP_EB_FEATURE_…` in iPXE's `ipxe/features.h`).
    pub const fn code(self) -> u8 {
        match self {
            Self::Http => 19,
            Self::Iscsi => 17,
        }
    }

    /// The folder of the binaries for an iPXE without the feature.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Http => "without-http",
            Self::Iscsi => "without-iscsi",
        }
    }

    /// The feature that a machine lacks if it requests this file.
    pub fn lacking(file: &str) -> Option<Self> {
        let (folder, _) = file.trim_start_matches('/').split_once('/')?;
        Self::ALL.into_iter().find(|feature| feature.folder().eq_ignore_ascii_case(folder))
    }

    /// The reason why a machine stops that lacks the feature again after it has read `image`.
    pub fn describe_lack(self, image: &str) -> String {
        format!("this iPXE has no {self}, and came back without {self} after it read {image}")
    }
}

impl std::fmt::Display for IpxeFeature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Iscsi => "iSCSI",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_names_the_missing_feature() {
        for (file, feature) in [
            ("without-http/undionly.kpxe", Some(IpxeFeature::Http)),
            ("/WITHOUT-ISCSI/snponly.efi", Some(IpxeFeature::Iscsi)),
            ("undionly.kpxe", None),
            ("without-http", None),
            ("x/without-http/undionly.kpxe", None),
        ] {
            assert_eq!(IpxeFeature::lacking(file), feature, "{file}");
        }
    }
}
