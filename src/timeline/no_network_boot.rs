//! The words about a machine that was switched on to boot from the network, and sent no request.

/// What to do about it.
pub(super) const ADVICE: &str = "Look at the machine's console. If another system starts, put the network first in the boot order of the firmware's \
     setup, and set the capability boot_mode of the node to the firmware's mode (uefi or bios). If the firmware tries the \
     network, check the link, the VLAN and DHCP of its card. If it still runs its self-test, raise [power] \
     first_request_timeout.";

/// The sentence about a machine that sent nothing after it was switched on to boot from the network.
pub(super) fn describe_missing_boot(seconds: u32) -> String {
    format!(
        "the firmware did not boot from the network: the boot override was ignored; no request in {seconds} s since the \
         machine was switched on"
    )
}
