package process

const hasPdeathsig = true
