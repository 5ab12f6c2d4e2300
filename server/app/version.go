package app

import "runtime/debug"

// Version is the server's version: set by the linker in releases, else what Go knows of the build.
var Version = buildVersion()

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
