//! `volboot generate`: writes man pages and shell completions for packages, generated from the command line's
//! definition.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// The sections of the man page that clap does not generate.
const SECTIONS: &str = r#".SH SIGNALS
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
Graceful shutdown: new connections are refused, running transfers and requests may complete, the store is closed.
.TP
\fBSIGHUP\fR
Reload the configuration (including the log filter), the certificates and the iPXE binaries. Connections stay open. An
invalid configuration changes nothing; all errors are logged. Changed keys that need a restart are logged too.
.SH "EXIT STATUS"
.TP
\fB0\fR
Success. \fBserve\fR: graceful shutdown after a signal.
.TP
\fB1\fR
Failure; the error is on standard error.
.TP
\fB2\fR
Invalid command line.
.TP
\fB3\fR
\fBserve\fR: the store is damaged, belongs to a newer version or cannot be migrated to this one. A restart would not
help.
.TP
\fB4\fR
\fBboot\fR, \fBpower\fR: time\-out, with the verdict so far. The boot goes on.
.TP
\fB5\fR
\fBboot\fR, \fBcheck\fR, \fBpower\fR, \fBroll\fR: volboot cannot be reached, or refuses the credentials.
.TP
\fB6\fR
\fBboot\fR, \fBpower\fR: volboot cannot switch the node, as it has no BMC on record.
.TP
\fB7\fR
\fBboot\fR, \fBpower\fR: the BMC failed; the line names the fault.
.PP
\fBboot\fR exits with 0 when the machine is up, and with 1 when its boot has stopped. A node that never reported that it is up
counts as up when its operating system starts without an error. \fBroll\fR exits with 1 if a node failed. \fBcheck\fR
exits with 1 if the boot volume boots on no firmware, or if this is unsure.
.SH ENVIRONMENT
.TP
\fBVOLBOOT_CONFIG\fR
Configuration file.
.TP
\fBVOLBOOT_API\fR
URL of volboot's API.
.TP
\fBVOLBOOT_USER\fR, \fBVOLBOOT_PASSWORD\fR
User name and password for an API with HTTP basic authentication.
.TP
\fBOS_TOKEN\fR
Keystone token for an API with Keystone authentication.
.TP
\fBVOLBOOT_CHAP_PASSWORD\fR
Password for \fBenroll \-\-chap\-user\fR.
.TP
\fBVOLBOOT_LOG\fR
Log filter; overrides the configuration. A level (\fBinfo\fR, \fBdebug\fR), or levels by module, such as
\fBvolboot::boot=trace,info\fR.
.TP
\fBRUNTIME_DIRECTORY\fR
Set by the service manager: the directory of \fIstore.socket\fR.
.TP
\fBNOTIFY_SOCKET\fR, \fBWATCHDOG_USEC\fR
Set by the service manager for notifications of readiness, reload and shutdown, and for the watchdog; see
\fBsd_notify\fR(3).
.SH FILES
.TP
\fI/etc/volboot/volboot.toml\fR
Configuration. Without the file, all defaults apply.
.TP
\fI/var/lib/volboot/\fR
Records and history. A version with a newer schema migrates the records at its first start. It keeps a copy of the old
file for a downgrade, named after the old schema: \fIvolboot.redb.schema\-1\fR.
.TP
\fI/run/volboot/store.socket\fR
Socket of \fBstore export\fR, for root and the user of the service.
.SH "SEE ALSO"
\fBvolboot.toml\fR(5), \fBsystemctl\fR(1)
"#;

/// Writes `volboot.1`, a man page for each subcommand, and completions for bash, fish and zsh.
pub(super) fn write(mut command: Command, directory: &Path) -> io::Result<()> {
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "volboot", directory)?;
    }
    clap_mangen::generate_to(command, directory)?;
    OpenOptions::new().append(true).open(directory.join("volboot.1"))?.write_all(SECTIONS.as_bytes())
}
