package process

const hasPdeathsig = false
