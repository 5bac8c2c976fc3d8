# The first process of the node's namespaces, which have their own /proc. The directories outside the cluster's directory that a node
# writes to are replaced by empty ones in memory. A line on descriptor 3 reports that all mounts are made.
set -e

# Otherwise a container does not see the mounts that the kubelet makes for it.
mount --make-rshared /

for dir in /run /var/lib /var/log; do
	mount -t tmpfs tmpfs "$dir"
done
mkdir -p /run/lock /run/sysctl /var/log/pods

# Kernel settings that a kubelet would change for the whole machine. Files with the values that it needs are mounted over them.
# https://github.com/kubernetes/kubernetes/blob/v1.33.4/pkg/kubelet/cm/container_manager_linux.go#L410
while read -r name value; do
	[ -e "/proc/sys/$name" ] || continue
	file=/run/sysctl/$(basename "$name")
	echo "$value" >"$file"
	mount --bind "$file" "/proc/sys/$name"
done <<-END
	vm/overcommit_memory 1
	vm/panic_on_oom 0
	kernel/panic 10
	kernel/panic_on_oops 1
	kernel/keys/root_maxkeys 1000000
	kernel/keys/root_maxbytes 25000000
END

echo >&3
exec 3>&-
# Without exec: the shell must stay the first process, which waits for orphans.
sleep infinity
