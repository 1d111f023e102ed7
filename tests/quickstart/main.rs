//! The quick start of README and the guides, typed as it stands, on a provisioning host with Debian 12.
//!
//! volboot is installed from the deb, DHCP and storage are set up, and a machine is enrolled and boots.
//!
//! The host is a virtual machine with its own kernel and systemd, because LIO is part of the kernel. Its shell runs
//! exactly the documented commands. The exceptions are the site's own steps (an address, a volume with content), and the
//! changes from one variant to the next. So the test fails if a documented command does not work.
//!
//! Needs root, what the boot tests need, `tests/quickstart/install`, and the packages that `packaging/build` makes.

#[path = "../lab/mod.rs"]
mod lab;

mod server;

use std::time::Duration;

use anyhow::{Result, ensure};

use lab::Lab;
use lab::address_server::AddressServer;
use lab::documents::{block, command, row};
use lab::machine::{Firmware, MachineSpec};
use lab::volume::{Recipe, Volume};
use server::Server;

/// The machine in README's commands.
const MAC: &str = "52:54:00:12:34:56";
/// The time-out of a boot, with two virtual machines on two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// The site's own steps: an address, and a volume group with a volume for the machine.
const SITE_SETUP: [&str; 4] = [
    "ip link set eth0 up && ip address add 10.0.0.1/24 dev eth0",
    "vgcreate --quiet vg0 /dev/vdd",
    "lvcreate --quiet --name web-1 --size 48M vg0",
    "dd if=/dev/vdb of=/dev/vg0/web-1 bs=1M status=none",
];

#[test]
fn machine_boots_by_each_documented_setup() -> Result<()> {
    lab::run(|lab| {
        let bios = Volume::bootable(lab, &Recipe::new("bios", Firmware::Bios))?;
        let uefi = Volume::bootable(lab, &Recipe::new("uefi", Firmware::Uefi))?;
        let mut server = Server::power_on(lab, [&bios, &uefi])?;
        for line in SITE_SETUP {
            server.run(line)?;
        }

        server.run(command("apt install ./target/packages"))?;
        server.run(row("dnsmasq").command())?;
        server.run(row("dnsmasq").activation())?;
        for line in block("targetcli /backstores/block create") {
            server.run(&line)?;
        }
        for line in block("--volume-id VOLUME") {
            if !line.contains("volume target create") {
                server.run(line.replace("--storage-interface cinder", "--storage-interface external"))?;
            }
        }
        server.run(command("--property target_portal=").replace("target_lun=1", "target_lun=0"))?;
        let output = server.run(command("node validate web-1"))?;
        ensure!(output.contains("| storage    | True"), "the node is not valid: {output}");
        check_boot(lab, &mut server, MachineSpec::new(Firmware::Bios, MAC), &bios)?;

        // Variant: tgt, ISC dhcpd and a UEFI machine.
        server.run("openstack baremetal node delete web-1")?;
        server.run("targetcli clearconfig confirm=True && systemctl stop dnsmasq")?;
        server.run("dd if=/dev/vdc of=/dev/vg0/web-1 bs=1M status=none && systemctl start tgt")?;
        for line in block("tgt-admin --update ALL") {
            server.run(&line)?;
        }
        server.run(row("ISC dhcpd").command())?;
        server.run("sed -i 's/^INTERFACESv4=.*/INTERFACESv4=\"eth0\"/' /etc/default/isc-dhcp-server")?;
        server.run(row("ISC dhcpd").activation())?;
        server.run(command("VOLBOOT_CHAP_PASSWORD="))?;
        check_boot(lab, &mut server, MachineSpec::new(Firmware::Uefi, MAC), &uefi)?;

        // Variant: volboot as the ProxyDHCP server, beside a DHCP server of another host that knows nothing.
        server.run("systemctl stop isc-dhcp-server")?;
        let addresses = AddressServer::start_in_documented_network()?;
        for line in block("mode = \"proxy\"") {
            server.run(&line)?;
        }
        check_boot(lab, &mut server, MachineSpec::new(Firmware::Uefi, MAC), &uefi)?;
        server.run(
            "sed -i 's/^mode = .*/#mode = \"off\"/' /etc/volboot/volboot.toml && systemctl restart volboot",
        )?;
        drop(addresses);

        // Variant: Kea, HTTP boot, and enrollment with curl.
        server.run("openstack baremetal node delete web-1")?;
        server.run(row("Kea").command())?;
        server.run(row("Kea").activation())?;
        for line in block("api $url/nodes") {
            server.run(&line)?;
        }
        check_boot(
            lab,
            &mut server,
            MachineSpec { http_boot: true, ..MachineSpec::new(Firmware::Uefi, MAC) },
            &uefi,
        )?;

        // Variant: networkd, and a network card with iPXE.
        server.run("systemctl stop kea-dhcp4-server")?;
        server.run("dd if=/dev/vdb of=/dev/vg0/web-1 bs=1M conv=fsync status=none")?;
        server.run(row("systemd-networkd").command())?;
        server.run(row("systemd-networkd").activation())?;
        check_boot(lab, &mut server, MachineSpec::new(Firmware::Bios, MAC), &bios)
    })
}

/// Boots the machine from its volume, and checks volboot's verdict.
fn check_boot(lab: &Lab, server: &mut Server, machine: MachineSpec<'_>, volume: &Volume) -> Result<()> {
    if let Err(error) = machine.power_on(lab)?.wait_for(&[&volume.boot_line()], BOOT_LIMIT) {
        return Err(error.context(format!("journal of the server:\n{}", server.journal()?)));
    }
    let output = server.run(command("volboot show web-1"))?;
    ensure!(output.starts_with("volume hooked after"), "unexpected verdict: {output}");
    Ok(())
}
