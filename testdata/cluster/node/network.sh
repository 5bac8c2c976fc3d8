#!/bin/sh
# The network plugin: a pod has a loopback of its own, which is another plugin's work, and no other network. Whoever
# comes to it, a port-forward or a probe, enters its namespace. Kubernetes wants an address for every pod, though.
# https://github.com/containernetworking/cni/blob/spec-v0.4.0/SPEC.md
case $CNI_COMMAND in
ADD)
	sum=$(echo "$CNI_CONTAINERID" | cksum)
	sum=${sum%% *}
	address=10.$((sum / 65536 % 256)).$((sum / 256 % 256)).$((sum % 256))
	echo '{"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "sandbox": "'"$CNI_NETNS"'"}],' \
		'"ips": [{"version": "4", "interface": 0, "address": "'"$address"'/32"}]}'
	;;
VERSION) echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}' ;;
esac
