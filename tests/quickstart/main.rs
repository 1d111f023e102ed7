//! README's quick start, typed as it stands: on a provisioning host with Debian 12, its own kernel and systemd, volboot is
//! installed from the deb, DHCP and storage are set up, a machine is enrolled, switched on, and boots.
//!
//! The host is a virtual machine, because LIO is a part of the kernel. Its shell is typed what README says, no more and
//! no less, but for what README leaves to the site (a volume with something on it, an address), and what changes one
//! quick start into the next. So this fails when README does not say what works.
//!
//! Needs root, what the boot tests need, `tests/quickstart/install`, and the packages that `packaging/build` makes.

#[path = "../lab/mod.rs"]
mod lab;

mod server;

use std::time::Duration;

use anyhow::{Result, ensure};

use lab::Lab;
use lab::machine::{Build, Firmware};
use lab::readme::{block, command, row};
use lab::volume::{Recipe, Volume};
use server::Server;

/// The machine that README enrols.
const MAC: &str = "52:54:00:12:34:56";
/// No boot takes longer, on two virtual machines with two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// What a site has before volboot comes: an address, and a volume group with a volume for the machine.
const SITE: [&str; 4] = [
    "ip link set eth0 up && ip address add 10.0.0.1/24 dev eth0",
    "vgcreate --quiet vg0 /dev/vdd",
    "lvcreate --quiet --name web-1 --size 48M vg0",
    "dd if=/dev/vdb of=/dev/vg0/web-1 bs=1M status=none",
];

#[test]
fn a_machine_boots_by_each_quick_start() -> Result<()> {
    lab::run(|lab| {
        let bios = Volume::bootable(lab, &Recipe::new("bios", Firmware::Bios))?;
        let uefi = Volume::bootable(lab, &Recipe::new("uefi", Firmware::Uefi))?;
        let mut server = Server::power_on(lab, [&bios, &uefi])?;
        for line in SITE {
            server.types(line)?;
        }

        server.types(&command("apt install"))?;
        server.types(row("dnsmasq").command())?;
        server.types(row("dnsmasq").then())?;
        for line in block("targetcli /backstores/block create") {
            server.types(&line)?;
        }
        for line in block("openstack baremetal node create") {
            if !line.contains("volume target create") {
                server.types(&line.replace("--storage-interface cinder", "--storage-interface external"))?;
            }
        }
        server.types(&command("--property target_portal=").replace("target_lun=1", "target_lun=0"))?;
        let told = server.types(&command("node validate web-1"))?;
        ensure!(told.contains("| storage    | True"), "the node is not fit: {told}");
        boots(lab, &mut server, Build::bare(Firmware::Bios, MAC), &bios)?;

        // The next site has tgt and ISC dhcpd, and UEFI machines.
        server.types("openstack baremetal node delete web-1")?;
        server.types("targetcli clearconfig confirm=True && systemctl stop dnsmasq")?;
        server.types("dd if=/dev/vdc of=/dev/vg0/web-1 bs=1M status=none && systemctl start tgt")?;
        for line in block("tgt-admin --update ALL") {
            server.types(&line)?;
        }
        server.types(row("ISC dhcpd").command())?;
        server.types("sed -i 's/^INTERFACESv4=.*/INTERFACESv4=\"eth0\"/' /etc/default/isc-dhcp-server")?;
        server.types(row("ISC dhcpd").then())?;
        server.types(&command("VOLBOOT_CHAP_PASSWORD="))?;
        boots(lab, &mut server, Build::bare(Firmware::Uefi, MAC), &uefi)?;

        // Another has Kea, and machines that boot over HTTP, which are enrolled with curl.
        server.types("openstack baremetal node delete web-1")?;
        server.types("systemctl stop isc-dhcp-server")?;
        server.types(row("Kea").command())?;
        server.types(row("Kea").then())?;
        for line in block("api $url/nodes") {
            server.types(&line)?;
        }
        boots(lab, &mut server, Build { http_boot: true, ..Build::bare(Firmware::Uefi, MAC) }, &uefi)?;

        // And one has networkd, and cards with iPXE in them.
        server.types("systemctl stop kea-dhcp4-server")?;
        server.types("dd if=/dev/vdb of=/dev/vg0/web-1 bs=1M conv=fsync status=none")?;
        server.types(row("systemd-networkd").command())?;
        server.types(row("systemd-networkd").then())?;
        boots(lab, &mut server, Build::bare(Firmware::Bios, MAC), &bios)
    })
}

/// Switches the machine on, and sees its volume's boot loader, and that volboot knows how far it came.
fn boots(lab: &Lab, server: &mut Server, machine: Build<'_>, volume: &Volume) -> Result<()> {
    if let Err(error) = machine.power_on(lab)?.shows(&[&volume.boot_line()], BOOT_LIMIT) {
        return Err(error.context(format!("the server says:\n{}", server.journal()?)));
    }
    let told = server.types(&command("volboot show web-1"))?;
    ensure!(told.starts_with("hooked its volume"), "volboot tells of the boot: {told}");
    Ok(())
}
