#!/bin/sh
# Fetches Sweet Home 3D's furniture libraries (Debian's package, 120 MB) into a folder, for `amodal-diffusion make-rooms`.
# Works on Debian and its descendants, without root; the licences come with them.
set -eu
folder=${1:?usage: training/get_furniture.sh FOLDER}
mkdir -p "$folder"
cd "$folder"
apt-get download sweethome3d-furniture
dpkg-deb -x sweethome3d-furniture_*.deb .
rm sweethome3d-furniture_*.deb
mv usr/share/sweethome3d/furniture/*.sh3f .
mv usr/share/doc/sweethome3d-furniture/copyright LICENCES
rm -r usr
ls -l
