# cleanup DIRECTORY GROUP...: removes a cluster's directory and control groups when standard input ends. The process that runs the
# cluster has the other end of it, and closes it or ends.
cat >/dev/null
# Retry for 10 s: the cluster's processes may still be ending, and version 1 of cgroups does not report when a group is empty.
for _ in $(seq 100); do
	rm -rf "$1"
	find "$@" -depth -type d -exec rmdir {} +
	left=
	for path; do
		[ ! -e "$path" ] || left="$left $path"
	done
	[ -n "$left" ] || exit 0
	sleep 0.1
done 2>/dev/null
echo "left behind:$left" >&2
exit 1
