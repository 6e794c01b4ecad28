"""The AMI link: connect, watch, resync, journal, send. The only package that knows panoramisk."""
