//! What packages hold beside the binary: man pages and completions, made from the command line itself, so that they
//! cannot tell anything else.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// What the man page says beyond the command line.
const SECTIONS: &str = r#".SH SIGNALS
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
Stop: newcomers are refused, running transfers and requests may end, the store is closed.
.TP
\fBSIGHUP\fR
Read the configuration, the level of the log with it, and the iPXE binaries again. Connections stay. A configuration
with faults changes nothing, and the log tells all of them; keys that need a restart are named there too.
.SH "EXIT STATUS"
.TP
\fB0\fR
It was done, or \fBserve\fR was told to stop and ended in order.
.TP
\fB1\fR
It failed; standard error says why.
.TP
\fB2\fR
The command line is wrong.
.TP
\fB3\fR
\fBserve\fR: the store is of a newer version, or cannot be migrated to this one; starting again would not help.
.SH ENVIRONMENT
.TP
\fBVOLBOOT_CONFIG\fR
The configuration file.
.TP
\fBVOLBOOT_API\fR
Where the API of the running volboot is.
.TP
\fBVOLBOOT_USER\fR, \fBVOLBOOT_PASSWORD\fR
Who asks it, where it wants a name and a password.
.TP
\fBOS_TOKEN\fR
Who asks it, where it wants a token of Keystone's.
.TP
\fBVOLBOOT_CHAP_PASSWORD\fR
The password for \fBenroll \-\-chap\-user\fR.
.TP
\fBVOLBOOT_LOG\fR
What is logged, whatever the configuration says: a level (\fBinfo\fR, \fBdebug\fR), or levels of parts, such as
\fBvolboot::boot=trace,info\fR.
.TP
\fBNOTIFY_SOCKET\fR, \fBWATCHDOG_USEC\fR
Set by the service manager, which is told of readiness, reloads, the end, and life; see \fBsd_notify\fR(3).
.SH FILES
.TP
\fI/etc/volboot/volboot.toml\fR
The configuration. Without it, every default holds.
.TP
\fI/var/lib/volboot/\fR
The records. A version that writes them differently migrates them at its first start, and leaves the file as it was
beside them, for the older version: \fIvolboot.redb.schema\-1\fR, by the number of its schema.
.SH "SEE ALSO"
\fBvolboot.toml\fR(5), \fBsystemctl\fR(1)
"#;

/// Writes `volboot.1`, a page for each command, and the completions of bash, fish and zsh.
pub(super) fn write(mut command: Command, directory: &Path) -> io::Result<()> {
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "volboot", directory)?;
    }
    clap_mangen::generate_to(command, directory)?;
    OpenOptions::new().append(true).open(directory.join("volboot.1"))?.write_all(SECTIONS.as_bytes())
}
