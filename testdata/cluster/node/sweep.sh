# sweep DIRECTORY GROUP...: removes what a cluster has on disk, and its control groups, when standard input ends: who
# runs the cluster holds the other end, and closes it, or dies.
dir=$1
shift
cat >/dev/null
# The cluster's processes may only be dying, and nothing tells when a group is empty in version 1.
for _ in $(seq 100); do
	rm -rf "$dir"
	left=$dir
	for group; do
		if [ -d "$group" ]; then
			find "$group" -depth -type d -exec rmdir {} +
			left="$left $group"
		fi
	done 2>/dev/null
	ls -d $left >/dev/null 2>&1 || exit 0
	sleep 0.1
done
echo "left behind: $(ls -d $left 2>/dev/null)" >&2
exit 1
