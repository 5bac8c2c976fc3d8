#!/bin/sh
# The network plugin. A pod has only a loopback interface, which another plugin makes: port-forwards and probes enter the pod's
# namespace. Kubernetes requires an address for every pod, so this prints one that nobody can connect to.
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
