package project

// direction reports the keys of an ssh service that make no sense with where its connections come from and go to.
func (p *parsing) direction(s Service, n *node, given map[string]bool) {
	if s.Technology != SSH {
		return
	}
	say := func(format string, names ...string) {
		at := n.member(names...)
		if at == nil { // it comes from [defaults]
			at = n
		}
		p.key(at, "%s", format)
	}
	socks, reverse := s.Connection.SOCKS, s.Connection.Reverse
	switch {
	case socks && reverse:
		say("a forward is either a SOCKS port here or a port of the far side", "connection", "reverse")
	case socks && given["remote_port"]:
		say("means nothing to a SOCKS port: each client says where it wants to go", "remote_port")
	case socks && given["connection.remote_host"]:
		say("means nothing to a SOCKS port: each client says where it wants to go", "connection", "remote_host")
	case !socks && !given["remote_port"] && given["connection.socks"]:
		say(`missing "remote_port", the port at the far end`)
	case reverse && s.AutoPort:
		say(`"auto" means nothing here: it is the port of a server of your own, which the far side is led to`, "local_port")
	case reverse && s.OnDemand:
		say("nobody connects to a reverse forward here: it cannot wait for that", "start")
	}
}
