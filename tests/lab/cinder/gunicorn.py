# The server for Keystone. A file, because Keystone parses the command line of the program that loads it.
wsgi_app = "keystone.wsgi.api:application"
bind = "127.0.0.1:5000"
threads = 8
control_socket_disable = True
