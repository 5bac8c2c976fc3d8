# Runs as the first process of the namespaces that a node lives in, with a /proc of its own. What a node writes to
# outside of its cluster's directory is its own here, in memory. A line on file 3 says that all is made.
set -e

# Where mounts do not propagate, a container does not see those that the kubelet makes for it.
mount --make-rshared /

for dir in /run /var/lib /var/log; do
	mount -t tmpfs tmpfs "$dir"
done
mkdir -p /run/lock /run/sysctl /var/log/pods

# What a kubelet wants of the kernel, and would set for the whole machine. It is shown that all is as it wants it.
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
# Not exec: the shell is the parent of orphans here, and must take note of their end.
sleep infinity
